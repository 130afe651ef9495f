"""What the two sets of RMB share: conversations that wait for an answer, and answers."""

from typing import Any

from pydantic import BaseModel

from uptake.benchmarks.parse import prompt
from uptake.data.turns import conversation
from uptake.types import Prompt, Where


class Answer(BaseModel):
    """What a model said."""

    answer: str


class Question(BaseModel):
    """A conversation that ends with the user, and the path "Pairwise_set/Helpfulness/Code" or the like."""

    conversation_input: list[dict[str, Any]]
    category_path: str

    @property
    def goal(self) -> str:
        """What the answers are judged for: "helpfulness" or "harmlessness"."""
        return self.category_path.split("/")[1].lower()

    def asked(self, where: Where) -> Prompt:
        """The conversation as a prompt."""
        return prompt(conversation(self.conversation_input, where, "conversation_input"), where)
