"""The in-process sampler: all samples of a prompt share its prefill, and a finished sample costs nothing more.

Prompts wait in a queue, longest first, and enter while there is room for keys and values (the model's limit); a sample
leaves with its last token, a prompt with its last sample.
"""

from collections import defaultdict, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain
from typing import TypeVar, final

import torch
from torch import Tensor

from uptake.models import LanguageModel, Node, TokenTree, pack
from uptake.models.attention import TreeAttention
from uptake.models.scorer import hidden_states, logits
from uptake.sampling.answer import Answer, PromptIds, answer_limit, answers_to, check_prompts, record, rollout
from uptake.sampling.draw import Sampling
from uptake.sampling.rows import in_rows
from uptake.sampling.store import Decode, KeyValueStore, Layout, Prefill
from uptake.types import Rollout

T = TypeVar("T")

# Prompt tokens of one forward call, beyond which further prompts wait for the next.
PREFILL = 1 << 13
# Logits held at once, in floats (64 MB).
LOGITS = 1 << 24


def sample(
    lm: LanguageModel,
    prompts: Sequence[PromptIds],
    sampling: Sampling,
    end_ids: Collection[int],
    *,
    version: int = 0,
) -> list[Rollout]:
    """Sample `sampling.n` responses to each prompt, ordered by prompt, then sample.

    A response ends with the first of `end_ids` it draws, or unfinished at `max_new_tokens` or the end of the model's
    window. Prompts with equal keys get equal samples. See `stream` for the rest.
    """
    answers = dict(stream(lm, prompts, sampling, end_ids, version=version))
    return [one for index in range(len(prompts)) for one in answers[index]]


def stream(
    lm: LanguageModel,
    prompts: Sequence[PromptIds],
    sampling: Sampling,
    end_ids: Collection[int],
    *,
    version: int = 0,
) -> Iterator[tuple[int, tuple[Rollout, ...]]]:
    """The rollouts of each prompt beside its index, as soon as its last sample is done.

    The limit of the model bounds the tokens, of prompts and samples together, whose keys and values are held; a single
    prompt that needs more runs alone. `lm` is expected in evaluation mode, as loading leaves it. Raises InputError on a
    prompt that is empty or as long as the model's window, ModelError on logits that are not numbers.
    """
    check_prompts(lm, prompts)
    pools, alone = _ways(lm, prompts, sampling)
    done = [_pooled(lm, pool, sampling, frozenset(end_ids), lm.limits.cache) for pool in pools]
    done += [in_rows(lm, alone, sampling, frozenset(end_ids))] if alone else []
    for index, answers in chain(*done):
        yield index, tuple(rollout(lm, answer, version) for answer in answers)


def _ways(
    lm: LanguageModel, prompts: Sequence[PromptIds], sampling: Sampling
) -> tuple[list[dict[int, PromptIds]], dict[int, PromptIds]]:
    """The prompts, by index, that go through a pool together, and those that do not go through one.

    In a pool, keys are never computed again, so that all answers in it must have one rotary table from start to end.
    """
    pools: defaultdict[int, dict[int, PromptIds]] = defaultdict(dict)
    alone: dict[int, PromptIds] = {}
    for index, prompt in enumerate(prompts):
        size = len(prompt.ids)
        read = size + answer_limit(lm, prompt, sampling) - 1
        first, last = (lm.rope.of(size), lm.rope.of(read)) if lm.rope else (0, 0)
        (alone if lm.attention == "rows" or first != last else pools[first])[index] = prompt
    return list(pools.values()), alone


def _pooled(
    lm: LanguageModel, prompts: Mapping[int, PromptIds], sampling: Sampling, end_ids: frozenset[int], budget: int
) -> Iterator[tuple[int, list[Answer]]]:
    # Longest first: a later prompt fits into the slot of an earlier one, and neighbors are of like length.
    waiting = deque(sorted(prompts, key=lambda index: -len(prompts[index].ids)))
    pool = _Pool(lm, prompts, sampling, end_ids, budget)
    while waiting or pool.rows:
        while entering := pool.admit(waiting):
            pool.prefill(entering)
            yield from pool.retire()
        if pool.rows:
            pool.step()
            yield from pool.retire()


@final
class _Pool:
    """The prompts and answers in work: slot s of the store holds the prompt `slots[s]`, row r is that of `rows[r]`."""

    def __init__(
        self,
        lm: LanguageModel,
        prompts: Mapping[int, PromptIds],
        sampling: Sampling,
        end_ids: frozenset[int],
        budget: int,
    ) -> None:
        self.lm, self.prompts, self.sampling, self.end_ids = lm, prompts, sampling, end_ids
        longest = max(len(prompt.ids) for prompt in prompts.values())
        new_tokens = max(answer_limit(lm, prompt, sampling) for prompt in prompts.values())
        # Two slots for every n rows, so that prompts with few samples left do not keep others waiting.
        together = min(max(1, budget // (2 * longest + sampling.n * new_tokens)), len(prompts))
        self.store = KeyValueStore(min(2 * together, len(prompts)), together * sampling.n, longest, new_tokens)
        self.slots: list[int] = []
        self.rows: list[Answer] = []
        self.answers: dict[int, list[Answer]] = {}
        self.layout: Layout | None = None

    def admit(self, waiting: deque[int]) -> list[int]:
        """Take from the queue the prompts for which there is room."""
        room = min(self.store.slots - len(self.slots), (self.store.rows - len(self.rows)) // self.sampling.n)
        entering: list[int] = []
        tokens = 0
        while waiting and len(entering) < room:
            tokens += len(self.prompts[waiting[0]].ids)
            if entering and tokens > min(PREFILL, self.lm.limits.call):
                break
            entering.append(waiting.popleft())
        return entering

    @torch.no_grad()
    def prefill(self, entering: Sequence[int]) -> None:
        """Compute prompts and draw the first token of their answers."""
        prompts = [TokenTree((Node(self.prompts[index].ids, scored=False),)) for index in entering]
        packed = pack(prompts, shared=False)
        device = self.lm.device
        slots = range(len(self.slots), len(self.slots) + len(entering))
        attend = Prefill(self.store, slots, packed.segments, TreeAttention(packed.segments, device))
        states = hidden_states(self.lm, packed.ids.to(device), packed.positions.to(device), attend)
        groups = [answers_to(self.lm, index, self.prompts[index], self.sampling) for index in entering]
        self._record(states[[segment.stop - 1 for segment in packed.segments]], groups)
        self.answers.update(zip(entering, groups, strict=True))
        self.rows.extend(answer for group in groups for answer in group)
        self.slots.extend(entering)
        self.layout = None

    @torch.no_grad()
    def step(self) -> None:
        """Draw one more token of every answer."""
        layout = self.layout = self.layout or self._layout()
        steps = [len(answer.ids) - 1 for answer in self.rows]
        step = torch.tensor(steps, device=self.lm.device)
        attend = Decode(self.store, layout, step, max(steps) + 1, layout.even and min(steps) == max(steps))
        ids = torch.tensor([answer.ids[-1] for answer in self.rows], device=self.lm.device)
        states = hidden_states(self.lm, ids, layout.length[layout.slot] + step, attend)
        self._record(states, [[answer] for answer in self.rows])

    def retire(self) -> Iterator[tuple[int, list[Answer]]]:
        """Let the answers that are done go, and then the prompts that have no other; yield these."""
        done = [row for row, answer in enumerate(self.rows) if answer.done]
        if not done:
            return
        columns = max(len(answer.ids) for answer in self.rows) - 1  # the last token has no key yet
        self.store.move_rows(close_gaps(self.rows, done), columns)
        live = {answer.home for answer in self.rows}
        over = [index for index in self.slots if index not in live]
        self.store.move_slots(close_gaps(self.slots, [self.slots.index(index) for index in over]))
        self.layout = None
        yield from ((index, self.answers.pop(index)) for index in sorted(over))

    def _layout(self) -> Layout:
        slot_of = {index: slot for slot, index in enumerate(self.slots)}
        lengths = [len(self.prompts[index].ids) for index in self.slots]
        return Layout.of([slot_of[answer.home] for answer in self.rows], lengths, self.lm.device)

    def _record(self, states: Tensor, groups: Sequence[Sequence[Answer]]) -> None:
        step = max(1, LOGITS // self.lm.vocabulary)
        for start in range(0, len(groups), step):
            scores = logits(self.lm, states[start : start + step])
            record(self.lm, scores, groups[start : start + step], self.sampling, self.end_ids)


def close_gaps(items: list[T], gaps: Sequence[int]) -> list[tuple[int, int]]:
    """Drop the items at `gaps`, in ascending order, by moving the last ones over them; return the moves (from, to)."""
    size = len(items) - len(gaps)
    moves = list(zip(sorted({*range(size, len(items))}.difference(gaps)), gaps, strict=False))
    for source, target in moves:
        items[target] = items[source]
    del items[size:]
    return moves
