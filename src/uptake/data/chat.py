"""Conversations to token ids through a chat template, with the exact span of every part that is scored or trained."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from hashlib import sha256
from logging import getLogger
from typing import TYPE_CHECKING, Literal, NoReturn, Self, get_args
from zlib import crc32

from transformers import PreTrainedTokenizerBase

from uptake.data.markers import Markers, is_escaped, special_tokens
from uptake.data.spans import Ids, continued, is_written, is_written_later, refuse, split, tokenize
from uptake.data.template import PLAIN_NOTE, Template, plain_template, template_of
from uptake.data.where import bad_row
from uptake.errors import InputError, ModelError, TooLong
from uptake.support.notes import note
from uptake.types import Dialogue, Role, Turn, Where

if TYPE_CHECKING:
    from uptake.models import LanguageModel  # whose import takes seconds, which not every command has to wait for

log = getLogger(__name__)

# Mixed case, so that a template that changes letters cannot return them unchanged by luck.
_RESPONSE, _FOLLOW_UP = "UptakeResponse7Qx", "UptakeFollowUp7Qx"
_PROBE = (Turn("user", "Hello"), Turn("assistant", "Hello."))

# What a conversation says where it spells out a special token: these letters, or that token.
SpelledTokens = Literal["text", "tokens"]
# The variable of the environment with it, so that threads and processes of a command read alike.
SPELLED_TOKENS = "UPTAKE_SPELLED_TOKENS"
# Letters at the end of a header in which a thought may be opened.
_OPENED = 64


def _spelled_tokens() -> SpelledTokens:
    found = os.environ.get(SPELLED_TOKENS, "text")
    if found not in get_args(SpelledTokens):
        raise InputError(repr(found), field=SPELLED_TOKENS, allowed=", ".join(get_args(SpelledTokens)))
    return found  # type: ignore[return-value] # a literal by now


@dataclass(frozen=True)
class FollowUpIds:
    """A follow-up to a conversation: `stem` holds all ids before its content, `branch` the ids of the content alone."""

    stem: Ids
    branch: Ids


@dataclass(frozen=True)
class ChatFormat:
    """One tokenizer with one chat template: the functions from conversations to token ids. Made by `ChatFormat.of`.

    `plain` says that the tokenizer brought no template and `PLAIN_TEMPLATE` stands in. `closing` is the text that ends
    an assistant turn, up to and including the end-of-turn token; it is empty where the template writes no such token.
    `end_ids` are that token, the tokenizer's end-of-text token and all that the model's configurations name (Llama 3,
    Qwen and Phi have several): a model that says one of them has finished. What is trained is the template's own. A
    blank, or a token that is text to the tokenizer, ends nothing.

    Special tokens are those that the template writes, and no others: a conversation that spells out a special token
    says so many letters, and is noted (`support.notes`). With `spelled_tokens` "tokens" it says that token, for data
    that is meant so. `where`, in every method, names the row in error messages.

    **The border.** The ids of a prompt are those of the conversation with the header of the assistant's turn, as the
    policy is sampled from. Those of a response are all that the template writes after that text, up to the end-of-turn
    token: tool calls and thoughts, and also the empty thought of a template that begins every answer with one. Where a
    token of the whole text holds characters of both, the response is read on its own after the prompt, and noted.
    """

    tokenizer: PreTrainedTokenizerBase
    template: str
    plain: bool
    closing: str = ""
    end_ids: frozenset[int] = frozenset()
    spelled_tokens: SpelledTokens = field(default_factory=_spelled_tokens)
    _probed: dict[tuple[Role, str], FollowUpIds] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        model: "LanguageModel | PreTrainedTokenizerBase",
        template: str | None = None,
        spelled_tokens: SpelledTokens | None = None,
    ) -> Self:
        """The format of a model: `template`, else its tokenizer's own template, else `PLAIN_TEMPLATE`.

        A tokenizer alone will do for all but sampling, as it knows one end of text where the model may have more.
        An end of the model that is no special token to its tokenizer is none, which a warning says. Raises InputError
        where the template is broken or does not write a turn's content as it is.
        """
        tokenizer = model if isinstance(model, PreTrainedTokenizerBase) else model.tokenizer
        named = () if isinstance(model, PreTrainedTokenizerBase) else _named_ends(model)
        plain = template is None and not tokenizer.chat_template
        text = plain_template(tokenizer) if plain else template_of(tokenizer, template)
        bare = cls(tokenizer, text, plain, end_ids=_known(*named, tokenizer.eos_token_id))
        bare = replace(bare, spelled_tokens=spelled_tokens) if spelled_tokens else bare
        closing, end = _end_of_turn(bare, _after_response(bare))
        return replace(bare, closing=closing, end_ids=bare.end_ids | _known(end))

    def check_ends(self, model: "LanguageModel") -> None:
        """Raise InputError where a token that ends the model's texts is no end to this format, as of another model."""
        unknown = sorted((model.end_ids & self._markers.ids) - self.end_ids)
        if unknown:
            tokens = ", ".join(repr(str(token)) for token in model.tokenizer.convert_ids_to_tokens(unknown))
            problem = f"{model.name} ends a text with {tokens} too, where its answers would go on"
            raise InputError(problem, field="chat", allowed="the format of the model: ChatFormat.of(model)")

    def warn_if_plain(self, name: str) -> None:
        """Say so where the model of a name is read under `PLAIN_TEMPLATE`."""
        if self.plain:
            log.warning("%s %s", name, PLAIN_NOTE)

    @cached_property
    def fingerprint(self) -> str:
        """A content hash of vocabulary and template: equal texts get equal ids under formats that share it."""
        seen = sha256(self.template.encode(errors="backslashreplace"))
        if self.spelled_tokens != "text":
            seen.update(self.spelled_tokens.encode())
        for token, index in sorted(self.tokenizer.get_vocab().items()):
            seen.update(f"{token}\0{index}\0".encode("utf-8", "backslashreplace"))
        return seen.hexdigest()[:16]

    def render(self, turns: Dialogue, generation: bool = False) -> str:
        """The conversation as text, for people; with `generation`, the assistant's header is at its end.

        Raises InputError where the template refuses the conversation.
        """
        return self._markers.spell(self.text(turns, generation))

    def text(self, turns: Dialogue, generation: bool = False, *, where: Where | None = None) -> str:
        """The conversation as text for `tokenize`, in which no turn opens another; raises as `render` does."""
        return self._template(self._all_escaped(turns), generation, where)

    def escape(self, text: str) -> str:
        """A text for `tokenize` that says no special token, as long as before."""
        if self.spelled_tokens == "tokens":
            return text
        escaped = self._markers.escape(text)
        if escaped != text:
            note("texts spell out a special token, and are read as these letters", text)
        return escaped

    def tokenize(self, texts: Sequence[str]) -> list[Ids]:
        """Ids of each text, as of `text` and `escape`; no special tokens beside those that are written out there."""
        return tokenize(*self._encoder(texts))

    def prompt_ids(self, turns: Dialogue, *, where: Where | None = None) -> Ids:
        """Ids of a conversation that waits for the assistant, up to and including the generation prompt."""
        return self.tokenize([self.text(turns, generation=True, where=where)])[0]

    def response_ids(self, turns: Dialogue, response: Turn | str, *, where: Where | None = None) -> tuple[Ids, Ids]:
        """Ids of the prompt, and ids of the response with the end-of-turn token that closes it.

        Raises ModelError where the template writes no end-of-turn token, and InputError where the template renders the
        prompt differently once it is answered, or changes the response.
        """
        prompt, text = self.response_text(turns, response, where=where)
        prompt_ids, ids, _ = self.continued(prompt, text)
        return prompt_ids, ids

    def response_text(
        self, turns: Dialogue, response: Turn | str, *, finished: bool = True, where: Where | None = None
    ) -> tuple[str, str]:
        """The prompt as text for `tokenize`, and what the template writes after it: the response, and its end.

        One that is not `finished` has no end. Raises as `response_ids` does.
        """
        if finished and not self.closing:
            raise ModelError(
                "the chat template ends the assistant's turn without a special token, so no model could learn to stop; "
                "give the tokenizer an eos_token or a template that writes one"
            )
        answer = Turn("assistant", response) if isinstance(response, str) else response
        prompt, whole = self.text(turns, generation=True, where=where), self.text((*turns, answer), where=where)
        if not whole.startswith(prompt):
            refuse("the template renders the prompt differently once it is answered", prompt, whole, where)
        end, closing = self._end(whole, len(prompt), answer)
        text, content = whole[len(prompt) : max(end, 0)], self._escaped(answer.content)
        opened = prompt[-_OPENED:] + text  # a header may open the thought that the response begins with
        whole_text = not answer.fields
        if end < 0 or not (is_written(content, text, whole=whole_text) or is_written(content, opened)):
            refuse("the template changes the response", content + self.closing, whole[len(prompt) :], where)
        self._check_calls((*turns, answer), where)
        return prompt, text + (closing if finished else "")

    def _end(self, whole: str, start: int, answer: Turn) -> tuple[int, str]:
        """Where the content of the last turn ends, and what closes it; calls may have an end of their own."""
        end = whole.rfind(self.closing, start) if self.closing else len(whole)
        if end < 0 and "tool_calls" in answer.fields and (last := self._markers.last(whole, start)):
            return last
        return end, self.closing

    def _check_calls(self, turns: Dialogue, where: Where | None) -> None:
        """Raise InputError where the template leaves out the tool calls of the last turn."""
        if "tool_calls" in turns[-1].fields and not self._template.reads(turns, len(turns) - 1, "tool_calls"):
            allowed = "a template for tools, or responses without calls"
            raise bad_row("the chat template does not write tool calls", where, allowed=allowed)

    def continued(self, prompt: str, text: str) -> tuple[Ids, Ids, list[tuple[int, int]]]:
        """Ids of a prompt, ids of the text after it, and the offsets of these in it; none where a tokenizer has none.

        The first do not depend on the second: they are what a model is given, and the rest is what it would say.
        """
        tokenizer, (before, after) = self._encoder([prompt, text])
        found, merged = continued(tokenizer, before, after)
        if merged:
            note(
                "responses begin with what a token would join to the prompt, and are read on their own", (prompt, text)
            )
        return found

    def follow_up(
        self, turns: Dialogue, text: str, *, speaker: Role = "user", closed: bool = False, where: Where | None = None
    ) -> FollowUpIds:
        """Ids of a text as the next user turn of a conversation that ends with the response.

        Stem and branch together are the tokens of the chat up to the last character of the stripped text, so the
        branch holds neither header nor end of turn; where it is to be `closed`, it goes on to the special token that
        ends the turn, if the template writes one. Spaces before the text belong to the branch: many tokenizers join
        them with the first word. With the `speaker` "assistant" the text is the assistant's next turn, after a user
        turn. Raises InputError where a token joins other parts of the header with the text, or where the template
        changes the turn before or the text.
        """
        return self._split(turns, [text], where, speaker=speaker, closed=closed)[0]

    def follow_ups(
        self, turns: Dialogue, texts: Sequence[str], *, speaker: Role = "user", where: Where | None = None
    ) -> tuple[Ids, tuple[Ids, ...]]:
        """The stem that all follow-ups to one conversation share, and the branch of each.

        Tokenizes the conversation once: branches come from a short probe chat, and one follow-up, another from row to
        row, is checked in full. Where it differs, every follow-up of the row is tokenized in full. Raises InputError
        as `follow_up` does, and where the stems differ.
        """
        if not texts:
            raise InputError("no follow-ups", allowed="at least one text")
        new = [text for text in dict.fromkeys(texts) if (speaker, text) not in self._probed]
        probe = _PROBE if speaker == "user" else _PROBE[:1]
        found = self._split(probe, new, None, speaker=speaker)
        self._probed.update({(speaker, text): part for text, part in zip(new, found, strict=True)})
        probed = [self._probed[speaker, text] for text in texts]
        index = crc32(turns[-1].content.encode(errors="replace")) % len(texts)
        checked = self.follow_up(turns, texts[index], speaker=speaker, where=where)
        if checked.branch == probed[index].branch and all(one.stem == probed[0].stem for one in probed):
            return checked.stem, tuple(one.branch for one in probed)
        parts = self._split(turns, texts, where, speaker=speaker)
        for part in parts:
            if part.stem != checked.stem:
                problem = "the tokens before a follow-up change with the follow-up"
                self._refuse_ids(problem, checked.stem, part.stem, where)
        return checked.stem, tuple(part.branch for part in parts)

    def fit(
        self,
        turns: Dialogue,
        max_tokens: int,
        reserve: int = 0,
        *,
        shape: Callable[[Dialogue], Dialogue] = tuple,
        where: Where | None = None,
    ) -> tuple[Dialogue, int]:
        """The conversation without its oldest turns, so that it leaves `reserve` of `max_tokens` tokens free.

        Returns what is kept and the number of turns dropped. Whole turns go, oldest first, up to a user turn. A leading
        system turn, the last user turn and a response after it always stay: InputError where these do not fit. What is
        kept is measured in the `shape` in which it will be read.
        """
        system = turns[:1] if turns[0].role == "system" else ()
        size = 0
        for start in sorted({len(system), *(index for index, turn in enumerate(turns) if turn.role == "user")}):
            fitted = (*system, *turns[start:])
            shaped = shape(fitted)
            text = self.text(shaped, generation=shaped[-1].role != "assistant", where=where)
            size = len(self.tokenize([text])[0])
            if size + reserve <= max_tokens:
                return fitted, len(turns) - len(fitted)
        raise bad_row(
            f"the last exchange takes {size} tokens, with {reserve} more to come, in a window of {max_tokens}",
            where,
            allowed="shorter turns, or a model with a longer window",
            kind=TooLong,
        )

    def _split(
        self, turns: Dialogue, texts: Sequence[str], where: Where | None, *, speaker: Role, closed: bool = False
    ) -> list[FollowUpIds]:
        """Stem and branch of every text, each from the tokens of the whole chat."""
        if not texts:
            return []
        header, footer = self._around_follow_up(turns, speaker, where)
        contents = [self._escaped(text.strip()) for text in texts]
        for content in contents:
            if not content:
                raise InputError("a follow-up is blank", allowed="a sentence that a user would send")
            found = self.text((*turns, Turn(speaker, content)), where=where)
            if found != header + content + footer:
                refuse("the template changes the follow-up", header + content + footer, found, where)
        end = _end_of_turn(self, footer)[0] if closed else ""
        tokenizer, (header, *contents) = self._encoder([header, *(each + end for each in contents)])
        return [FollowUpIds(*part) for part in split(tokenizer, header, contents, where)]

    def _around_follow_up(self, turns: Dialogue, speaker: Role, where: Where | None) -> tuple[str, str]:
        """The text before and after the content of the speaker's next turn, if the turn before stands unchanged."""
        *history, response = turns
        if response.role == speaker == "user":
            raise InputError("the conversation to follow up ends with a user turn", allowed="a response at the end")
        follow_up = Turn(speaker, _FOLLOW_UP)
        header, found, footer = self.text((*turns, follow_up), where=where).rpartition(_FOLLOW_UP)
        if found and not response.content.strip():  # nothing but tool calls
            self._check_calls(turns, where)
            return header, footer
        marked = self._template.render(self._all_escaped((*history, replace(response, content=_RESPONSE), follow_up)))
        before, _, after = marked.partition(_RESPONSE)
        between = after.rpartition(_FOLLOW_UP)[0]
        written, content = header.removeprefix(before).removesuffix(between), self._escaped(response.content)
        if not found or not is_written_later(content, written):
            refuse("the template changes the response", before + content + between, header, where)
        if written.strip() != content.strip():
            note("responses are read without the thought that they begin with, as the chat template has it", response)
        return header, footer

    @cached_property
    def _template(self) -> Template:
        return Template(self.tokenizer, self.template)

    @cached_property
    def _markers(self) -> Markers:
        return Markers(self.tokenizer)

    def _escaped(self, text: str) -> str:
        return text if self.spelled_tokens == "tokens" else self._markers.escape(text)

    def _all_escaped(self, turns: Dialogue) -> Dialogue:
        """The turns, in which special tokens are letters."""
        if self.spelled_tokens == "tokens":
            return turns
        escape = self._markers.escape
        return tuple(replace(turn, content=self.escape(turn.content), fields=escape(turn.fields)) for turn in turns)

    def _encoder(self, texts: Sequence[str]) -> tuple[PreTrainedTokenizerBase, list[str]]:
        """The tokenizer that reads some texts, and the texts as it reads them, of equal lengths."""
        if not any(map(is_escaped, texts)):
            return self.tokenizer, list(texts)
        if self._markers.encoder is None:
            problem = "a text spells out a special token, and this tokenizer cannot read it as letters"
            raise InputError(problem, field="tokenizer", allowed="a fast tokenizer, or special tokens read as tokens")
        return self._markers.encoder, [self._markers.respell(text) for text in texts]

    def _refuse_ids(self, problem: str, expected: Ids, found: Ids, where: Where | None) -> NoReturn:
        tokens = [[str(self.tokenizer.convert_ids_to_tokens(one)) for one in ids] for ids in (expected, found)]
        refuse(problem, tokens[0], tokens[1], where)


def _after_response(bare: ChatFormat) -> str:
    """What the template writes after the content of an assistant turn."""
    text = bare.text((*_PROBE[:1], Turn("assistant", _RESPONSE)))
    _, found, tail = text.rpartition(_RESPONSE)
    if not found:
        refuse("the template changes the assistant's turn", _RESPONSE, text)
    return tail


def _known(*tokens: int | None) -> frozenset[int]:
    return frozenset(token for token in tokens if token is not None)


def _named_ends(model: "LanguageModel") -> frozenset[int]:
    """The ends of a model that are special tokens."""
    special = frozenset(special_tokens(model.tokenizer).values())
    others = model.tokenizer.convert_ids_to_tokens(sorted(model.end_ids - special))
    if text := ", ".join(repr(token) for token in others if token):
        _warn(
            f"{model.name}: its configuration ends a text with {text}, no special token of its tokenizer: no end here"
        )
    return model.end_ids & special


@cache
def _warn(line: str) -> None:
    """Say a line once, however many formats a model gets."""
    log.warning("%s", line)


def _end_of_turn(chat: ChatFormat, tail: str) -> tuple[str, int | None]:
    """What follows a turn's content up to the first special token, and that token; nothing where there is none."""
    special = chat.end_ids | chat._markers.ids
    for token in chat.tokenize([tail])[0]:
        spelled = str(chat.tokenizer.convert_ids_to_tokens(token))
        if token in special and spelled in tail:  # the token of what is unknown is spelled nowhere
            return tail[: tail.index(spelled) + len(spelled)], token
    return "", None
