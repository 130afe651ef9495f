"""The nouns of Uptake: frozen records without behaviour, each with a worked example."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]
# What a message holds beside role and content, by the names of Transformers' chat templates.
Fields = Mapping[str, Any]
# Rows to learn from, and rows to measure with.
Split = Literal["train", "heldout"]

# The share of changed units up to which an edit is minimal: one that changes more does not say where a text was wrong.
MAX_EDIT_RATIO = 0.5
# The weight of an unchanged response: many rows of nothing but zeros would pull every token reward to zero.
NO_EDIT_WEIGHT = 0.1
Source = Literal["policy", "server", "dataset"]

# Ids of tokens. A run holds all its examples, so there they are arrays of four bytes an id (`support.token_ids`).
TokenIds = Sequence[int]


@dataclass(frozen=True, slots=True)
class Turn:
    """Message of a conversation: `Turn("user", "When does the bakery open?")`.

    `fields` is what else it holds that a chat template may read: `tool_calls`, `reasoning_content`, `name`. Those of
    the system turn are of the conversation: its `tools`, and `chat_template_kwargs`; a system turn without content is
    there for them alone, and no template sees it as a message.
    """

    role: Role
    content: str
    fields: Fields = field(default_factory=dict, hash=False)


Dialogue = tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Where:
    """The place a row came from, for error messages: `Where(Path("chats.jsonl"), 17)`; lines count from 1."""

    path: Path
    line: int


@dataclass(frozen=True, slots=True)
class Prompt:
    """Conversation that waits for the assistant: its last turn is the user's, or the result of a tool.

    `Prompt((Turn("user", "When does the bakery open?"),), key="3f2a90c1d4e5b677")`. `key` is a content hash: equal
    conversations have equal keys, whatever file or order they come in. `extra` keeps the row's other columns.
    """

    turns: Dialogue
    key: str
    where: Where | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class Answered:
    """Response to a prompt: `Answered(prompt, "At eight.")`. The unit that is scored and imitated.

    Here and below `fields` are those of the response's turn, such as its tool calls.
    """

    prompt: Prompt
    response: str
    fields: Fields = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class PairIds:
    """Token ids of a preference as a policy sampled them: `PairIds("3f2a90c1d4e5b677", (1, 7), (4, 2), (5, 2))`.

    `tokenizer` is the fingerprint of the chat format whose ids they are.
    """

    tokenizer: str
    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Preference:
    """Better and worse response to a prompt: `Preference(prompt, "At eight.", "It sells bread.")`.

    `margin` is how much more a reward gives the chosen response; `token_ids` are there where a policy sampled both.
    """

    prompt: Prompt
    chosen: str
    rejected: str
    chosen_fields: Fields = field(default_factory=dict, hash=False)
    rejected_fields: Fields = field(default_factory=dict, hash=False)
    margin: float | None = None
    token_ids: PairIds | None = None


@dataclass(frozen=True, slots=True)
class Rated:
    """Response to a prompt that is good or bad (unpaired preference): `Rated(prompt, "At eight.", True)`."""

    prompt: Prompt
    response: str
    good: bool
    fields: Fields = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a text and what it is worth: `Span(4, 7, -1.0)` for a wrong "cat" in "The cat sat."

    Offsets count code points of the raw text, half-open, so they survive another tokenizer. `start == end` marks an
    omission before that place. `kind` is the name of the fault, where one is known, and `note` is for people.
    """

    start: int
    end: int
    score: float
    kind: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Edited:
    """A response with its minimal edit: `Edited(prompt, "The cat sat.", "The dog sat.", (Span(4, 7, -1.0),))`.

    `spans` say where the response is wrong and `edited_spans` where the edit is better; empty ones say that nothing was
    found, None that they follow from comparing the two texts. Without an edit (`edited` None) spans must be given.
    `finished` is false for a response that was cut off. Rows of one `group` edit the same response. `demoted` marks an
    edit too far from the response to say where it was wrong: a preference of whole texts. `weight` counts the row.
    """

    prompt: Prompt
    response: str
    edited: str | None = None
    spans: tuple[Span, ...] | None = None
    edited_spans: tuple[Span, ...] | None = None
    finished: bool = True
    group: str = ""
    demoted: bool = False
    weight: float = 1.0


Row = Prompt | Answered | Preference | Rated | Edited


@dataclass(frozen=True, slots=True)
class Rollout:
    """One response to one prompt, as token ids: what a sampler makes and a judge reads.

    `response_ids` ends with the model's end-of-turn token exactly when `finished` is true. `response` is the same as
    text, without special tokens, for judges and people. `logps` holds the log-probability of every response token
    under the distribution it was sampled from (empty where that is not known). `sample` counts the samples of a prompt
    from 0. `version` counts the optimizer steps of the policy by then; `source` is who answered: "policy", "server"
    (another model) or "dataset". `fields` are those of a recorded response's turn.
    """

    prompt: Prompt
    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    response: str
    finished: bool
    logps: tuple[float, ...] = ()
    sample: int = 0
    version: int = 0
    source: Source = "policy"
    fields: Fields = field(default_factory=dict, hash=False)


# Responses to one prompt: what a producer makes of a row, and what a judge sees together.
Group = tuple[Rollout, ...]


class Dropped(StrEnum):
    """Reason why a row, a response or a pair counts for nothing: `Dropped.EMPTY`; the text is what it is counted under.

    One list for all: what cannot be judged, what a signal leaves out, and rows that give no example.
    """

    # Nobody could judge it, or was asked to.
    EMPTY = "empty"
    EQUAL_RESPONSES = "equal responses"
    TOO_LONG = "longer than the window"
    UNREADABLE = "cannot be read"
    NOT_FINITE = "not a finite number"
    NO_CHOICE = "neither 1 nor 2"
    NO_ANSWER = "no answer"
    NO_REACTION = "nobody answered this response"
    SKIPPED = "skipped"
    FAILED = "the reward failed"
    # Its judgement says too little to learn from.
    TIE = "tie"
    DUPLICATE = "duplicate"
    ONE_CANDIDATE = "fewer than two candidates"
    NO_CONTRAST = "no contrast"
    SMALL_MARGIN = "below margin"
    LENGTH_RATIO = "length ratio"
    CATEGORY_AGREEMENT = "category agreement"
    MARGIN_QUANTILE = "below margin quantile"
    BETWEEN_THRESHOLDS = "between the thresholds"
    BELOW_THRESHOLD = "not above the threshold"
    NOT_THE_BEST = "not the best of its prompt"
    # It is nothing to learn from as it is.
    UNFINISHED = "unfinished"
    NO_WEIGHT = "no response of weight 1"
    LABELED_BAD = "labeled bad"
    EXCHANGE_TOO_LONG = "last exchange longer than the window"
    NO_COMMON_PROMPT = "longer than the window, or after other tokens"


@dataclass(frozen=True, slots=True)
class Judgement:
    """Judgement of one response by a reward: `Judgement(score=1.3, parts={"correctness": 2.0})`.

    `parts` are the rewards of categories, by name, where there are any. `tokens` holds one value per response token,
    where the judge says which words were good or bad.
    A judgement that could not be had is `Judgement(0.0, reason=Dropped.TOO_LONG)`: it is dropped and counted, never
    guessed. `detail` is what a reward or an error says more, for people.
    """

    score: float
    parts: Mapping[str, float] = field(default_factory=dict)
    reason: Dropped | None = None
    detail: str = ""
    tokens: tuple[float, ...] = ()

    @property
    def valid(self) -> bool:
        """Whether there is a judgement."""
        return self.reason is None


# The responses to one prompt that can be learned from, each with its judgement: an example for a loss of rewards.
JudgedGroup = tuple[tuple[Rollout, Judgement], ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Verdict of an annotator on two responses: `Verdict(p=0.8, by_order=(0.9, 0.7))`.

    `p` is the probability that the first response is the better one; `by_order` is the same probability as read with
    the first response shown first, and with it shown second. One that could not be had has the `reason`, and in
    `detail` what else is known of it: the pair is dropped and counted, never guessed. `tokens` counts what was read and
    written, `cost` is in the currency of the configured prices.
    """

    p: float
    by_order: tuple[float, float]
    reason: Dropped | None = None
    detail: str = ""
    tokens: int = 0
    cost: float = 0.0

    @property
    def valid(self) -> bool:
        """Whether there is a verdict."""
        return self.reason is None


# What is said of a group: a judgement of each of its responses, or one verdict over two of them.
Assessment = Verdict | tuple[Judgement, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """A better and a worse response to one prompt, as an example to learn from: `Pair((1, 7), (4, 2), (5, 2))`.

    `margin` is how much more the judge, or the row, gives the chosen response. `p` is the label: the probability that
    the chosen response is the better one, 1 for a hard label. `aux_ids` is a third response to the prompt, for a term
    beside the loss of the pair.
    """

    prompt_ids: TokenIds
    chosen_ids: TokenIds
    rejected_ids: TokenIds
    margin: float = 0.0
    p: float = 1.0
    aux_ids: TokenIds = ()


@dataclass(frozen=True, slots=True)
class Labeled:
    """A response that is good or bad by itself, as an example to learn from: `Labeled((1, 7), (4, 2), good=True)`."""

    prompt_ids: TokenIds
    response_ids: TokenIds
    good: bool


@dataclass(frozen=True, slots=True)
class Marked:
    """A response with a label for every token, from -1 (wrong) to 1 (better): `Marked((4, 6, 2), (0.0, -1.0, 0.0))`."""

    ids: TokenIds
    labels: Sequence[float]


@dataclass(frozen=True, slots=True)
class Edit:
    """A marked response with its marked edits, as an example to learn from: `Edit((1, 7), response, (edited,))`.

    Where it is `demoted`, labels say nothing: the edits as a whole are better than the response. `weight` counts it.
    """

    prompt_ids: TokenIds
    response: Marked
    edits: tuple[Marked, ...] = ()
    demoted: bool = False
    weight: float = 1.0
    where: Where | None = None


@dataclass(frozen=True, slots=True)
class RoundData:
    """Data of a round to learn from: `RoundData((pair,), {"samples": 2, "pairs": 1, "dropped": {}})`.

    `examples` are whatever the stage's objective takes. `summary` holds every figure about what was kept and, under
    "dropped", what was not and why. `version` is the number of optimizer steps, on average, of the policy that sampled
    the responses behind the examples; None where no policy did.
    """

    examples: Sequence[Any]
    summary: Mapping[str, Any]
    version: float | None = None
