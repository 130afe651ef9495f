"""A chat template: conversations as text, with all that their turns hold."""

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from uptake.data.turns import for_server, message_list, of_conversation
from uptake.data.where import bad_row
from uptake.errors import InputError
from uptake.support.keys import OF_CONVERSATION, THOUGHTS
from uptake.support.notes import note
from uptake.types import Dialogue, Turn, Where

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# The generation prompt ends without a blank: tokenizers join the blank with the first word of the answer.
PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    "{{ message['role'] | capitalize }}: {{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)

# The variable that names the template to use of a tokenizer that has several.
CHOSEN = "UPTAKE_CHAT_TEMPLATE"

# What is said of a model that is read so.
PLAIN_NOTE = "brings no chat template; the plain one is used: 'User: ...' and 'Assistant: ...' lines"

# Fields that say who, not what: no word is lost where a template leaves them out.
_NAMES = ("name", "weight", "tool_call_id")
_LOST_OPENING = "conversations lost an assistant turn before the user's first, which the chat template does not take"
_LOST_WORDS = "messages have words beside a tool call, which the chat template does not write"
# In so many conversations a field may be left out before it counts as one that the template does not read.
_TRIALS = 8


@dataclass(frozen=True)
class Template:
    """Chat template of a tokenizer: renders conversations with tools, calls, results, thoughts and its own arguments.

    What a turn holds goes to the template by the names of Transformers, which knows several for a thought. A field that
    the template does not read, a tool's result that it does not write and an opening turn of the assistant that it does
    not take are noted (`support.notes`).
    """

    tokenizer: "PreTrainedTokenizerBase"
    text: str
    _read: Counter[tuple[str, str]] = field(default_factory=Counter, repr=False, compare=False)

    def __call__(self, turns: Dialogue, generation: bool = False, where: Where | None = None) -> str:
        """The conversation as text; with `generation`, the header of the assistant's next turn is at its end.

        Raises InputError, which names the row, where the template refuses the conversation.
        """
        turns = self._taken(turns)
        text = self.render(turns, generation, where)
        for index, turn in enumerate(turns):
            if turn.fields:
                self._note_unread(turns, index, generation, text)
            if turn.role == "tool" and not _is_in(turn.content, text):
                note("results of tools are not written by the chat template", turns[: index + 1])
            if "tool_calls" in turn.fields and not _is_in(turn.content, text):
                note(_LOST_WORDS, turns[: index + 1])
        return text

    def reads(self, turns: Dialogue, index: int, name: str, generation: bool = False) -> bool:
        """Whether the text of a conversation depends on a field of one of its turns."""
        turn = turns[index]
        without = Turn(turn.role, turn.content, {key: value for key, value in turn.fields.items() if key != name})
        changed = (*turns[:index], without, *turns[index + 1 :])
        return self.render(changed, generation) != self.render(turns, generation)

    def render(self, turns: Dialogue, generation: bool = False, where: Where | None = None) -> str:
        """The conversation as text, as it is and without a note; raises as a call does."""
        options: dict[str, Any] = {"chat_template": self.text, "add_generation_prompt": generation}
        spelled = of_conversation(turns)
        options |= spelled.get("chat_template_kwargs", {})
        options |= {"tools": spelled.get("tools"), "tokenize": False}
        messages: Any = message_list(turns)
        try:
            try:
                return str(self.tokenizer.apply_chat_template(messages, **options))
            except TypeError:  # some join the arguments of a call to a text
                return str(self.tokenizer.apply_chat_template(for_server(turns)["messages"], **options))
        except Exception as error:  # a template is a program of somebody else's
            roles = ", ".join(turn.role for turn in turns)
            allowed = None if turns[0].role != "system" else "rows without a system turn, where that is what it refuses"
            raise bad_row(
                f"the chat template refuses a conversation of {roles}: {error}", where, allowed=allowed
            ) from error

    def _taken(self, turns: Dialogue) -> Dialogue:
        """The turns without an opening of the assistant's that the template does not take."""
        system = turns[:1] if turns[0].role == "system" else ()
        opening = turns[len(system) : len(system) + 1]
        if len(turns) <= len(system) + 1 or opening[0].role != "assistant" or self._takes_opening:
            return turns
        note(_LOST_OPENING, turns[: len(system) + 2])
        return (*system, *turns[len(system) + 1 :])

    @cached_property
    def _takes_opening(self) -> bool:
        opening = Turn("assistant", "Welcome.")
        try:
            return opening.content in self.render((opening, Turn("user", "Hello.")), generation=False)
        except InputError:
            return False

    def _note_unread(self, turns: Dialogue, index: int, generation: bool, text: str) -> None:
        turn = turns[index]
        for name, value in turn.fields.items():
            if name in THOUGHTS:
                unread = not _is_in(str(value), text)  # it may be read in the last turn and left out of the others
            else:
                unread = name not in _NAMES and not self._is_read(turns, index, name, generation)
            if unread:
                what = "conversations" if name in OF_CONVERSATION else "messages"
                note(f"{what} hold {name}, which the chat template does not read", turns[: max(index, 1) + 1])

    def _is_read(self, turns: Dialogue, index: int, name: str, generation: bool) -> bool:
        """Whether a field is read, which one conversation in which it is tells for all."""
        kind = turns[index].role, name
        if 0 <= self._read[kind] < _TRIALS:
            self._read[kind] = -1 if self.reads(turns, index, name, generation) else self._read[kind] + 1
        return self._read[kind] < 0


def _is_in(words: str, text: str) -> bool:
    """Whether a text has some words in it, as they are or as JSON spells them."""
    words = words.strip()
    return words in text or any(json.dumps(words, ensure_ascii=ascii_)[1:-1] in text for ascii_ in (False, True))


def template_of(tokenizer: "PreTrainedTokenizerBase", template: str | None = None) -> str:
    """The text of a chat template: `template`, or the tokenizer's own; of several that of this name, or in `CHOSEN`.

    Raises InputError, with the names there are, for a name that none of several has, and for a template that is no
    text.
    """
    held: Any = tokenizer.chat_template
    if template is not None and not (isinstance(held, Mapping) and template in held):
        return template
    if isinstance(held, Mapping):
        wanted, named = template or os.environ.get(CHOSEN, "default"), ", ".join(sorted(map(str, held)))
        if wanted not in held:
            problem = f"the tokenizer has several chat templates, and none is called {wanted!r}"
            raise InputError(problem, field="--chat-template", allowed=f"uptake --chat-template NAME: {named}")
        held = held[wanted]
    if not isinstance(held, str):
        raise InputError(f"found a {type(held).__name__}", field="chat_template", allowed="a text")
    return held


def plain_template(tokenizer: "PreTrainedTokenizerBase") -> str:
    """`PLAIN_TEMPLATE`, after the begin-of-text token where the tokenizer puts one before every text."""
    return "{{ bos_token }}" + PLAIN_TEMPLATE if begins_texts(tokenizer) else PLAIN_TEMPLATE


def begins_texts(tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Whether a tokenizer puts its begin-of-text token before every text."""
    return tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
