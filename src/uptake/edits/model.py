"""A language model in process as an editor: greedy, by the sampler that the policy is sampled with."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self, final

from uptake.data.chat import ChatFormat
from uptake.edits.edit import Draft, Proposal
from uptake.edits.prompt import CLOSING, DEFAULT, OPENING, EditPrompt, better, proposal
from uptake.errors import InputError
from uptake.models import LanguageModel, load
from uptake.rewards.fingerprint import fingerprint
from uptake.rollout import PolicySamples
from uptake.sampling.sampler import sample
from uptake.support.keys import prompt_key
from uptake.types import Prompt, Turn

# Room for the two tags beside an edit of twice the response's length, which is the longest that the rules take.
_TAGS = 32


@final
@dataclass(frozen=True, eq=False)
class ModelEditor:
    """Edits with any causal language model, at temperature 0.

    An answer has at most `max_new_tokens` tokens: by default twice those of the response and some for the tags, up to
    the next power of two. A response that leaves the model's window no room for itself is not edited ("too_long").
    Small models begin with anything but the tag: an answer without an edit is written again, with the tag as its
    beginning, and there the end of the model's turn closes the edit.
    Raises InputError for a setting out of its range and ModelError where no token would end an answer.
    """

    lm: LanguageModel
    prompt: EditPrompt
    max_new_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            raise InputError(f"{self.max_new_tokens}", field="max_new_tokens", allowed="a whole number from 1")

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path | LanguageModel,
        prompt: str | Path | EditPrompt = DEFAULT,
        *,
        max_new_tokens: int | None = None,
        **loading: Any,
    ) -> Self:
        """The editor of a Transformers folder, a Hub name or a loaded model; `prompt` names a preset or a file.

        `loading` are the options of `uptake.load` (device, dtype, adapter) for a model that is to be loaded.
        """
        loaded = prompt if isinstance(prompt, EditPrompt) else EditPrompt.load(prompt)
        lm = model if isinstance(model, LanguageModel) else load(model, **loading)
        return cls(lm, loaded, max_new_tokens)

    @property
    def name(self) -> str:
        return f"{self.lm.name}@{self.prompt.fingerprint}"

    @cached_property
    def fingerprint(self) -> str:
        settings = self.prompt.fingerprint, self.max_new_tokens, OPENING
        return fingerprint("ModelEditor", self.lm.model, self.chat, *settings)

    @cached_property
    def chat(self) -> ChatFormat:
        return ChatFormat.of(self.lm)

    def __call__(self, drafts: Sequence[Draft]) -> Sequence[Proposal]:
        """One proposal for every draft; raises ModelError where the model gives not-a-number."""
        proposals = [Proposal(reason="too_long")] * len(drafts)
        by_limit: dict[int, list[tuple[int, Prompt]]] = defaultdict(list)
        for index, draft in enumerate(drafts):
            turns = (Turn("user", self.prompt(draft)),)
            size = len(self.chat.tokenize([self.chat.escape(draft.response)])[0])
            if self.lm.window is None or len(self.chat.prompt_ids(turns)) + size < self.lm.window:
                by_limit[self._limit(size)].append((index, Prompt(turns, prompt_key(turns), draft.prompt.where)))
        for limit, some in by_limit.items():
            places, batch = zip(*some, strict=True)
            for index, first in zip(places, self._proposals(batch, limit), strict=True):
                proposals[index] = first
            lost = [(index, prompt) for index, prompt in some if proposals[index].reason == "parse"]
            again = [(index, prompt) for index, prompt in lost if self._has_room(prompt)]
            begun = self._proposals([prompt for _, prompt in again], limit, OPENING)
            for (index, _), second in zip(again, begun, strict=True):
                proposals[index] = better(proposals[index], second)
        return proposals

    def _proposals(self, batch: Sequence[Prompt], limit: int, beginning: str = "") -> list[Proposal]:
        greedy = PolicySamples(n=1, temperature=0.0, top_p=1.0, max_new_tokens=limit)
        (begun,) = self.chat.tokenize([beginning])
        prompts = [replace(each, ids=(*each.ids, *begun)) for each in greedy.prompt_ids(self.lm, batch, self.chat)]
        answers = sample(self.lm, prompts, greedy.sampling(seed=0), self.chat.end_ids)
        found = []
        for answer in answers:
            closing = CLOSING if beginning and answer.finished and CLOSING not in answer.response else ""
            tokens = len(answer.prompt_ids) + len(answer.response_ids)
            found.append(proposal(f"{beginning}{answer.response}{closing}", tokens))
        return found

    def _has_room(self, prompt: Prompt) -> bool:
        """Whether an answer to a prompt may begin with the tag and go on."""
        (tag,) = self.chat.tokenize([OPENING])
        return self.lm.window is None or len(self.chat.prompt_ids(prompt.turns)) + len(tag) < self.lm.window

    def _limit(self, size: int) -> int:
        return self.max_new_tokens or 1 << (2 * size + _TAGS - 1).bit_length()
