"""A chat model behind a server that answers in a word, with the log-probabilities of other words where it has them."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from uptake.annotators.completion import ChatCompletion
from uptake.client import Body, Form, Server, check_ranges, sent_with
from uptake.data.cache import Cache, content_key


@dataclass(frozen=True, kw_only=True)
class ChatServer(Server):
    """A server that is asked short questions.

    `max_tokens` bounds an answer and `top_logprobs` (0 to 20) says how many log-probabilities to ask for; a server that
    refuses them is asked without. Prices are per million tokens. Raises InputError for a setting out of its range.
    """

    max_tokens: int = 8
    top_logprobs: int = 20
    input_price: float = 0.0
    output_price: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(
            self,
            max_tokens=(self.max_tokens >= 1, "a whole number from 1"),
            top_logprobs=(0 <= self.top_logprobs <= 20, "a whole number from 0 to 20"),
            input_price=(self.input_price >= 0, "a number from 0"),
            output_price=(self.output_price >= 0, "a number from 0"),
        )

    def answers(
        self, texts: Collection[str], cache: Cache, attempt: int = 0, beginning: str = ""
    ) -> dict[str, ChatCompletion | None]:
        """The answer to every text, from the cache or else from the server; None where there was none.

        With a `beginning`, which may be the last line of a text, the answer goes on with it; a server that refuses an
        assistant's turn that has begun is asked without. Each `attempt` is another answer to the same text. Raises as
        `Server.ask` does.
        """
        keys = {text: self._key_of(text, attempt, beginning) for text in texts}
        questions = {key: {"messages": [{"role": "user", "content": text}]} for text, key in keys.items()}
        forms = [sent_with(settings) for settings in self._settings(attempt)]
        if beginning.strip():
            forms = [*(_begun(beginning, settings) for settings in self._settings(attempt)[:-1]), *forms]
        found = self.ask("/chat/completions", questions, forms, ChatCompletion, cache)
        return {text: found[key] for text, key in keys.items()}

    def cost(self, read: int, written: int) -> float:
        """The price of some tokens, in the currency of the prices."""
        return (read * self.input_price + written * self.output_price) / 1e6

    def _key_of(self, text: str, attempt: int, beginning: str) -> str:
        parts = (text, beginning) if beginning else (text,)
        return content_key("answer", self.model, self.max_tokens, self.top_logprobs, attempt, *parts)

    def _settings(self, attempt: int) -> list[dict[str, Any]]:
        # Asked again at temperature 0, a model would say the same again.
        plain = {"max_tokens": self.max_tokens, "temperature": min(attempt, 1)}
        full = {**plain, "logprobs": True, "top_logprobs": self.top_logprobs}
        # The newest models of OpenAI's own server take neither a temperature nor `max_tokens`.
        bare = {"max_completion_tokens": self.max_tokens}
        return [*([full] if self.top_logprobs else []), plain, bare]


def _begun(beginning: str, settings: Body) -> Form:
    """The form of a question whose answer has begun; the names are those of vLLM, SGLang and Transformers."""
    going_on = {"continue_final_message": True, "add_generation_prompt": False, **settings}

    def sent(question: Body) -> Body:
        (turn,) = question["messages"]
        last = {**turn, "content": turn["content"].removesuffix(f"\n{beginning}")}
        # Servers refuse a turn that ends with a blank, and tokenizers join the blank with what comes next.
        return {"messages": [last, {"role": "assistant", "content": beginning.rstrip()}], **going_on}

    return sent
