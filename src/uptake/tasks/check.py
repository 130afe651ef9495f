"""The preflight: what would a run read, train on and cost? Finds out in seconds what would otherwise fail in hours."""

import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import torch

from uptake.data import prompts
from uptake.data.where import bad_row
from uptake.errors import InputError
from uptake.models import TokenTree
from uptake.models.memory import weights_bytes
from uptake.objective import RoundObjective
from uptake.recipe import Examples, Recipe, Stage
from uptake.reference import NoReference
from uptake.tasks.judge_probe import facts_of, probe_judge
from uptake.tasks.measured_step import MeasuredRound, MeasuredStep, measured_round, measured_step
from uptake.tasks.memory_need import LAPTOP, Costs, copied_bytes, held_bytes, memory_need, memory_text, what_fits
from uptake.train.loop import batch_plan
from uptake.train.rounds import dropped
from uptake.types import Dropped, Prompt, RoundData, Row
from uptake.update import Reach, advice, rates_line, reach_of, steps_of, trainable
from uptake.update.memory import MOMENTS
from uptake.world import World

# Rows that are rendered, and rows whose lengths stand for all.
SHOWN = 2
MEASURED = 64
# Pairs that a judge is asked about.
PROBED = 8


@dataclass(frozen=True)
class Piece:
    """A run of text as the model reads it; `trained` says whether its tokens carry loss."""

    text: str
    trained: bool


@dataclass(frozen=True)
class Preflight:
    """Preflight of a run: rendered samples, facts worth reading before a start, and why the start may not be worth it.

    `cautions` say what the settings cannot move and what the rows cannot teach.
    """

    samples: tuple[tuple[Piece, ...], ...]
    facts: tuple[tuple[str, str], ...]
    cautions: tuple[str, ...] = ()


def check(recipe: Recipe, world: World, *, measure: bool = False, memory: int | None = None) -> Preflight:
    """Render samples, prove that a stop token is trained, work out the batch and the cost of the first stage.

    A run that takes more than `memory` bytes, by default those of a laptop, is told which settings take less. With
    `measure` two optimizer steps are taken, without moving a weight, and tell time and memory of them all; where
    responses are sampled, a few are sampled and judged for it.
    Raises InputError or ModelError for whatever would stop the run: rows of the wrong kind, a chat template whose
    prompt is not a prefix of prompt and response, a model without an end-of-turn token, a first loss that is not the
    constant that it must be where policy and reference are the same.
    """
    stage, limit = recipe.stages[0], LAPTOP if memory is None else memory
    if not world.chat.end_ids:
        raise InputError(f"{world.policy.name} has no end-of-turn token", allowed="a tokenizer with an eos_token")
    if stage.modules is not None:
        world = replace(world, policy=replace(world.policy, heads=stage.modules(world.policy)))
    rows = _rows(stage, world)
    facts = [*_stages(recipe, world), ("rows", f"{len(rows)}")]
    facts += [("chat template", "the plain one" if world.chat.plain else "the model's own")]
    facts += [("attention", world.policy.attention + (f": {world.policy.note}" if world.policy.note else ""))]
    if stage.examples is not None:
        return _recorded(stage, stage.examples, world, facts, measure, limit)
    # Before anything is sampled, one example for every prompt is as good a guess as any.
    found = reach_of(stage.update, world.policy.model, steps_of(stage.update, len(rows)) * stage.rounds)
    samples = tuple(_prompt_only(world, prompt) for prompt in prompts(rows[:SHOWN]))
    costs = _sampled_costs(stage, world, rows)
    more = [*_sampled(world, rows), *_steps(stage, found, " if every prompt gives one example")]
    need, too_large = _need(stage, world, costs, limit)
    more += [*_memory(stage, world), need]
    cautions = (*advice(stage.update, world.policy.model, found), *too_large)
    if measure:
        more += _measured_round(stage, measured_round(stage, world, rows), len(rows))
    stats = probe_judge(stage, world, PROBED)
    more += facts_of(stats) if stats is not None else []
    return Preflight(samples, (*facts, *more), cautions)


def _rows(stage: Stage, world: World) -> Sequence[Row]:
    """The rows of a stage's first round."""
    return world.rows if stage.examples is not None else stage.select(world, 0)


def _stages(recipe: Recipe, world: World) -> list[tuple[str, str]]:
    """How many stages there are, where there are several, and the steps of those that the other facts are not of."""
    steps = []
    for before, stage in enumerate(recipe.stages[1:], 1):
        rounds = 1 + min(before, stage.earlier)
        steps.append(steps_of(stage.update, len(_rows(stage, world)) * rounds) * stage.rounds)
    if not steps:
        return []
    told = ", ".join(map(str, steps))
    return [("stages", f"{len(recipe.stages)}; this is the first, the others take {told} steps at most")]


def _recorded(
    stage: Stage, examples: Examples, world: World, facts: Sequence[tuple[str, str]], measure: bool, limit: int
) -> Preflight:
    """The preflight of rows that carry their responses, after facts that all rows have."""
    rows = list(islice(world.rows, MEASURED))
    data = examples(replace(world, rows=rows), 0)
    if not data.examples:
        raise InputError(f"no training example in the first {len(rows)} rows; dropped: {dropped(data) or 'nothing'}")
    if _unfinished(data):
        one = next(row for row in rows if _unfinished(examples(replace(world, rows=[row]), 0)))
        where = one.where if isinstance(one, Prompt) else one.prompt.where
        raise bad_row("a response without an end-of-turn token", where, field="token_ids")
    trees = [stage.objective.tree(example) for example in data.examples]
    mean = sum(map(len, trees)) / len(trees)
    count = round(len(world.rows) * len(data.examples) / len(rows))
    found = reach_of(stage.update, world.policy.model, steps_of(stage.update, count) * stage.rounds)
    plan = batch_plan(len(data.examples), stage, (world.seed, 0, 0))
    costs = [[len(trees[index]) for index in part] for part in plan]
    whole = mean * min(count, stage.update.batch_size)
    need, too_large = _need(stage, world, costs, limit)
    more = [
        ("stop token", f"trained: every response ends with {_ends(world, _used(world, trees))}"),
        ("distinct tokens", f"{mean:.0f} an example, {whole:.0f} an optimizer step"),
        *_steps(stage, found),
        ("compute", _compute(stage, world, mean * count * stage.update.epochs)),
        ("loss before step 1", _first_loss(stage, world, data.examples[:SHOWN])),
    ]
    if measure:
        step = measured_step(stage, world, data.examples)
        more += _measured(step, mean * count * stage.update.epochs * stage.rounds)
    lost = [f"of the first {len(rows)} rows, dropped: {dropped(data)}"] if dropped(data) else []
    cautions = (
        *lost,
        *advice(stage.update, world.policy.model, found, count),
        *too_large,
        *stage.objective.cautions([[data.examples[index] for index in part] for part in plan]),
    )
    return Preflight(
        tuple(_pieces(world, tree) for tree in trees[:SHOWN]), (*facts, *more, *_memory(stage, world), need), cautions
    )


def _measured(step: MeasuredStep, tokens: float) -> list[tuple[str, str]]:
    minutes = step.seconds / step.tokens * tokens / 60
    return [
        ("time", f"about {minutes:.2g} minutes: {step.seconds:.2g} s for a step of {step.tokens} tokens"),
        ("peak memory", f"about {memory_text(step.peak)}, at that step"),
    ]


def _measured_round(stage: Stage, share: MeasuredRound, rows: int) -> list[tuple[str, str]]:
    """The time of all rounds by that of a share of one, by what is sampled, judged and learned."""
    step, times = share.step, rows / share.rows * stage.rounds
    learning = share.prepare + step.seconds / step.tokens * share.tokens * stage.update.epochs
    parts = {"sampling": share.sampling, "judging": share.judging, "update": learning}
    counts = {
        "sampling": f"{share.responses} responses of {share.rows} prompts, {share.response_tokens} tokens",
        "judging": f"{share.responses} responses",
        "update": f"{share.examples} examples of {share.tokens} tokens",
    }
    told = [
        (f"time: {name}", f"about {seconds * times / 60:.2g} minutes: {seconds:.2g} s for {counts[name]}")
        for name, seconds in parts.items()
    ]
    whole = sum(parts.values()) * times / 60
    return [
        *told,
        ("time", f"about {whole:.2g} minutes for {rows * stage.rounds} prompts, by {share.rows} of them"),
        ("peak memory", f"about {memory_text(step.peak)}, at a step of {step.tokens} tokens"),
    ]


def _need(stage: Stage, world: World, costs: Costs, limit: int) -> tuple[tuple[str, str], list[str]]:
    """What the steps of a run take at their peak, and a line where that is more than there is."""
    held = held_bytes(world.policy.device)
    need = memory_need(stage, world, costs, held)
    fact = "memory of a step", f"about {memory_text(need.peak)}, with {need.tokens} tokens at once"
    return fact, [line for line in [what_fits(stage, world, costs, held, limit)] if line]


def _sampled_costs(stage: Stage, world: World, rows: Sequence[Row]) -> Costs:
    """The most tokens that the examples of a step can have: a pair of responses each or, in groups, all of them."""
    produce, *_ = stage.sampling
    longest = max(len(world.chat.prompt_ids(prompt.turns)) for prompt in prompts(rows[:MEASURED]))
    room = (world.policy.window or sys.maxsize) - longest
    new = min(getattr(produce, "max_new_tokens", 0), max(1, room))
    responses = getattr(produce, "n", 2)
    each = longest + new * (responses if isinstance(stage.objective, RoundObjective) else min(2, responses))
    return [[each] * min(stage.update.batch_size, len(rows))]


def _steps(stage: Stage, found: Reach, where: str = "") -> list[tuple[str, str]]:
    share = "no layer is trained" if found.share is None else f"{100 * found.share:.2g} % of a layer's output, at most"
    return [
        ("optimizer steps", f"{found.steps}{where}"),
        ("learning rates", rates_line(stage.update, found)),
        ("reach", share),
    ]


def _compute(stage: Stage, world: World, tokens: float) -> str:
    weights = sum(weight.numel() for weight in world.policy.model.parameters())
    if isinstance(stage.reference, NoReference):
        return f"{6 * weights * tokens:.2g} FLOPs: 6 a weight and token"
    return f"{8 * weights * tokens:.2g} FLOPs: 6 a weight and token for the policy, 2 for the reference"


def _unfinished(data: RoundData) -> int:
    """Responses without an end of turn, learned from or left out for it."""
    return int(data.summary.get("unfinished", 0) + data.summary.get("dropped", {}).get(Dropped.UNFINISHED, 0))


def _first_loss(stage: Stage, world: World, examples: Sequence[object]) -> str:
    """The loss of some examples; where policy and reference are the same it may depend on nothing but the kernel."""
    reference = stage.reference.start(world)
    with torch.no_grad():
        found = [stage.objective(world.policy, reference, [each]) for each in examples]
    losses, metrics = [float(each.total) for each in found], found[0].metrics
    if "margin" in metrics and stage.reference.is_start and max(losses) - min(losses) > 1e-5:
        raise InputError(
            f"policy and reference differ before the first step: losses {', '.join(f'{loss:.6f}' for loss in losses)}",
            field="reference",
            allowed="equal losses where the reference is the policy's starting point",
        )
    return ", ".join(f"{loss:.6f}" for loss in losses)


def _sampled(world: World, rows: Sequence[Row]) -> list[tuple[str, str]]:
    lengths = [len(world.chat.prompt_ids(prompt.turns)) for prompt in prompts(rows[:MEASURED])]
    return [
        ("prompt tokens", f"{sum(lengths) / len(lengths):.0f} on average, {max(lengths)} at most"),
        ("model's window", f"{world.policy.window or 'no limit'}"),
        ("responses", f"sampled when the run starts; they end with {_ends(world, world.chat.end_ids)}"),
    ]


def _memory(stage: Stage, world: World) -> list[tuple[str, str]]:
    """What lies in memory from the first step to the last, by its bytes; activations come on top."""
    policy, trained = world.policy, list(trainable(world.policy).values())
    modules = [weight for head in policy.heads.values() for weight in head.parameters()]
    moments = MOMENTS[stage.update.optimizer]
    given = [world.model(name) for name in getattr(stage.reference, "uses", ())]
    parts = {
        "policy": weights_bytes(policy.model.parameters()),
        "modules beside it": weights_bytes(modules),
        "reference": copied_bytes(stage.reference, policy) + sum(weights_bytes(lm.model.parameters()) for lm in given),
        "gradients": weights_bytes(trained),
        f"{moments} optimizer moment{'s' * (moments > 1)}": moments * weights_bytes(trained),
    }
    names = ", ".join(name for name, found in parts.items() if found)
    weights = sum(weight.numel() for weight in policy.model.parameters())
    return [
        ("weights", f"{weights:,}, of which {sum(weight.numel() for weight in trained):,} are trained"),
        ("memory for weights", f"about {memory_text(sum(parts.values()))}: {names}"),
    ]


def _pieces(world: World, tree: TokenTree) -> tuple[Piece, ...]:
    decode = world.chat.tokenizer.decode
    return tuple(Piece(str(decode(list(node.ids))), node.scored) for node in tree.nodes)


def _prompt_only(world: World, prompt: Prompt) -> tuple[Piece, ...]:
    return (Piece(world.chat.render(prompt.turns, generation=True), trained=False),)


def _used(world: World, trees: Sequence[TokenTree]) -> frozenset[int]:
    """The end tokens that recorded responses have: the template's own, and in mined rows those that were sampled."""
    trained = (token for tree in trees for node in tree.nodes if node.scored for token in node.ids)
    return world.chat.end_ids.intersection(trained)


def _ends(world: World, ends: Collection[int]) -> str:
    return " or ".join(repr(str(world.chat.tokenizer.decode([index]))) for index in sorted(ends))
