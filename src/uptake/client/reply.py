"""Replies of servers, as far as they are used: what stands beside an answer never costs the answer."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self, TypeVar

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
)

_Value = TypeVar("_Value")

# Words of servers for an answer that its model has ended, and for one that met a limit first.
_ENDED = {"stop", "stop_sequence", "eos", "eos_token", "end_turn", "end_of_turn", "complete", "completed", "finished"}
_CUT_OFF = {"length", "max_length", "max_tokens", "max_new_tokens", "max_output_tokens", "model_length", "token_limit"}

# So much of a model's thoughts is kept, to be quoted where it says nothing else.
_LONGEST_THOUGHT = 300


def _or_none(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    try:
        return read(value)
    except ValidationError:
        return None


# A detail: None where it is of another kind than expected.
Lenient = Annotated[_Value | None, WrapValidator(_or_none)]


def _text(content: Any) -> Any:
    """The text of a message whose content comes in parts."""
    if not isinstance(content, list):
        return content
    texts = [part.get("text") if isinstance(part, Mapping) else part for part in content]
    return "".join(text for text in texts if isinstance(text, str))


def _beginning(thoughts: Any) -> Any:
    return thoughts[:_LONGEST_THOUGHT] if isinstance(thoughts, str) else None


class Message(BaseModel):
    """Message of a chat model, with the beginning of its thoughts where a server puts them beside."""

    content: Annotated[Lenient[str], BeforeValidator(_text)] = None
    thoughts: Annotated[Lenient[str], BeforeValidator(_beginning)] = Field(
        None, validation_alias=AliasChoices("thoughts", "reasoning_content", "reasoning")
    )

    @property
    def answer(self) -> str:
        """The text after the thoughts that it begins with, `<think>…</think>`; empty where they do not end.

        A template may have opened the thoughts in the question, so that the text holds their end only.
        """
        text = self.content or ""
        _, closed, answer = text.partition("</think>")
        if closed:
            return answer
        return "" if text.lstrip().startswith("<think>") else text


class ChatChoice(BaseModel):
    """Answer of a chat model, and why it ended there."""

    message: Message
    finish_reason: Lenient[str] = None

    @property
    def ended(self) -> bool:
        """Whether the model has ended it, in whatever word."""
        return (self.finish_reason or "").lower() in _ENDED

    @property
    def cut_off(self) -> bool:
        """Whether a limit has ended it, in whatever word."""
        return (self.finish_reason or "").lower() in _CUT_OFF


class Usage(BaseModel):
    """Tokens read and written, as far as a server counts them."""

    prompt_tokens: Lenient[int] = None
    completion_tokens: Lenient[int] = None


class Reply(BaseModel):
    """Reply of a server, as far as it is used."""

    @classmethod
    @abstractmethod
    def of(cls, body: str, question: Mapping[str, Any]) -> Self:
        """The reply that a body holds; one that is not `whole` where it holds no answer to the question."""

    @property
    @abstractmethod
    def whole(self) -> bool:
        """Whether the question is answered; what does not answer it is not kept."""


class Choices(Reply):
    """The part of a model's answer that matters here; without choices where the server sent something else."""

    choices: Sequence[BaseModel] = ()
    usage: Lenient[Usage] = None

    @classmethod
    def of(cls, body: str, question: Mapping[str, Any]) -> Self:
        try:
            return cls.model_validate_json(body)
        except ValidationError:
            return cls()  # without choices: the caller counts it as an answer that is none

    @field_validator("choices", mode="before")
    @classmethod
    def _first(cls, choices: Any) -> Any:
        """The only one that is read."""
        return choices[:1] if isinstance(choices, list) else choices

    @property
    def whole(self) -> bool:
        return bool(self.choices)

    @property
    def tokens(self) -> tuple[int, int]:
        """Tokens read and written; 0 where the server does not count them."""
        return (self.usage.prompt_tokens or 0, self.usage.completion_tokens or 0) if self.usage else (0, 0)
