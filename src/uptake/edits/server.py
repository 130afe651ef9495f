"""A model behind a server as an editor: it is shown a response and writes the edit between two tags."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import final

from uptake.annotators.chat_server import ChatServer
from uptake.annotators.completion import ChatCompletion
from uptake.data.cache import Cache
from uptake.edits.edit import Draft, Proposal
from uptake.edits.prompt import DEFAULT, OPENING, EditPrompt, better, proposal


@final
@dataclass(frozen=True, kw_only=True)
class ServerEditor(ChatServer):
    """Edits by asking a server of OpenAI's chat protocol, at temperature 0.

    Every answer goes to the file `cache` before it is used, so nothing is paid for twice, whatever stops the work.
    `prompt` names a preset or a file. Thoughts before an answer are read past. An answer of more than `max_tokens`
    tokens breaks off, and so has no closing tag ("cut_off"). One without an edit is asked for once more, with the tag
    as its beginning where the server lets it. Raises as `ChatServer` does.
    """

    max_tokens: int = 2048
    top_logprobs: int = 0
    timeout: float = 300.0
    prompt: str = DEFAULT
    cache: str = "editor.sqlite"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._prompt  # noqa: B018 - a prompt that cannot be read is an error here, not hours later

    @property
    def name(self) -> str:
        return f"{self.model}@{self._prompt.fingerprint}"

    @property
    def fingerprint(self) -> str:
        return repr((self.url, self.model, self.max_tokens, self._prompt.fingerprint, OPENING))

    @cached_property
    def _prompt(self) -> EditPrompt:
        return EditPrompt.load(self.prompt)

    def __call__(self, drafts: Sequence[Draft]) -> Sequence[Proposal]:
        """One proposal for every draft; raises as `ChatServer.answers` does."""
        questions = [self._prompt(draft) for draft in drafts]
        cache = Cache(self.cache)
        found = {text: self._proposal(each) for text, each in self.answers(dict.fromkeys(questions), cache).items()}
        again = [text for text, each in found.items() if each.reason in ("parse", "cut_off")]
        for text, answer in self.answers(again, cache, 1, OPENING).items():
            found[text] = better(found[text], self._proposal(answer, OPENING))
        return [found[text] for text in questions]

    def _proposal(self, answer: ChatCompletion | None, beginning: str = "") -> Proposal:
        if answer is None:
            return Proposal(reason="no_answer")
        text = answer.answer
        # What goes on after the tag does not repeat it; a server that was asked without the beginning writes it.
        text = text if OPENING in text else f"{beginning}{text}"
        found = proposal(text, sum(answer.tokens), self.cost(*answer.tokens))
        if found.reason and answer.choices and answer.choices[0].cut_off:
            message = answer.choices[0].message
            return replace(found, reason="cut_off", answer=message.content or message.thoughts or "")
        return found
