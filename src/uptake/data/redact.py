"""Personal data out of conversations, before anything else sees them.

What has a form can be found by it: addresses, numbers, keys of accounts. Names and what people tell of themselves have
none, and stay. The library is Presidio, by its recognizers of patterns and checksums, which need no model.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from uptake.errors import UptakeError
from uptake.types import Answered, Dialogue, Edited, Preference, Prompt, Rated, Row

_RECOGNIZERS = ("Email", "Phone", "CreditCard", "Iban", "Ip", "MacAddress", "Url", "UsSsn")


@dataclass(frozen=True)
class Redact:
    """Replaces e-mail addresses, telephone, card and account numbers, network addresses and links by their kind.

    `Redact.ready()("Write to ann@example.com")` is "Write to <EMAIL_ADDRESS>"; `found` counts what was replaced.
    """

    recognizers: Sequence[Any]
    found: Counter[str] = field(default_factory=Counter)

    @classmethod
    def ready(cls) -> Self:
        """Loads Presidio; raises UptakeError, with the way to install it, where it is not there."""
        try:
            import presidio_analyzer.predefined_recognizers as known  # noqa: PLC0415 - an extra
            from tldextract.tldextract import TLD_EXTRACTOR  # noqa: PLC0415
        except ImportError as error:
            problem = f"removing personal data needs the extra `privacy`: pip install 'uptake[privacy]' ({error})"
            raise UptakeError(problem) from error
        # Else the first address would send for the newest list of domains; one comes with the library.
        TLD_EXTRACTOR.suffix_list_urls = ()
        return cls([getattr(known, f"{name}Recognizer")() for name in _RECOGNIZERS])

    def __call__(self, text: str) -> str:
        """The text with every find replaced; of two that overlap the surer one counts, then the longer."""
        spans = [span for one in self.recognizers for span in one.analyze(text, one.supported_entities, None)]
        chosen: list[Any] = []
        for span in sorted(spans, key=lambda each: (-each.score, each.start - each.end, each.start)):
            if all(span.end <= other.start or other.end <= span.start for other in chosen):
                chosen.append(span)
        for span in sorted(chosen, key=lambda each: -int(each.start)):
            self.found[span.entity_type] += 1
            text = f"{text[: span.start]}<{span.entity_type}>{text[span.end :]}"
        return text

    def row(self, row: Row) -> Row:
        """The row with all its turns and responses redacted; other columns stay as they are."""
        if isinstance(row, Prompt):
            return replace(row, turns=self._turns(row.turns))
        changed = replace(row.prompt, turns=self._turns(row.prompt.turns))
        match row:
            case Preference():
                fields = self._value(row.chosen_fields), self._value(row.rejected_fields)
                # Not its token ids: they spell the texts as they were.
                return Preference(changed, self(row.chosen), self(row.rejected), *fields, row.margin)
            case Answered() | Rated():
                return replace(row, prompt=changed, response=self(row.response), fields=self._value(row.fields))
            case Edited():
                raise UptakeError("rows with edits cannot be redacted: their spans would no longer fit")

    def _turns(self, turns: Dialogue) -> Dialogue:
        return tuple(replace(turn, content=self(turn.content), fields=self._value(turn.fields)) for turn in turns)

    def _value(self, value: Any) -> Any:
        """A value of JSON with all its texts redacted."""
        if isinstance(value, Mapping):
            return {name: self._value(each) for name, each in value.items()}
        if isinstance(value, list):
            return [self._value(each) for each in value]
        return self(value) if isinstance(value, str) else value
