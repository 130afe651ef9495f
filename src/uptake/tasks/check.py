"""The preflight: what would a run read, train on and cost? Finds out in seconds what would otherwise fail in hours."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import torch

from uptake.data import prompts
from uptake.data.where import bad_row
from uptake.errors import InputError
from uptake.models import TokenTree
from uptake.recipe import Examples, Recipe, Stage
from uptake.tasks.judge_probe import facts_of, probe_judge
from uptake.types import Dropped, Prompt, RoundData, Row
from uptake.update import trainable
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
    """Preflight of a run: rendered samples, facts worth reading before a start, and the first step's loss."""

    samples: tuple[tuple[Piece, ...], ...]
    facts: tuple[tuple[str, str], ...]


def check(recipe: Recipe, world: World) -> Preflight:
    """Render samples, prove that a stop token is trained, work out the batch and the cost of the first stage.

    Raises InputError or ModelError for whatever would stop the run: rows of the wrong kind, a chat template whose
    prompt is not a prefix of prompt and response, a model without an end-of-turn token, a first loss that is not the
    constant that it must be where policy and reference are the same.
    """
    stage = recipe.stages[0]
    if not world.chat.end_ids:
        raise InputError(f"{world.policy.name} has no end-of-turn token", allowed="a tokenizer with an eos_token")
    if stage.modules is not None:
        world = replace(world, policy=replace(world.policy, heads=stage.modules(world.policy)))
    rows = world.rows if stage.examples is not None else stage.select(world, 0)
    facts = [("rows", f"{len(rows)}"), ("chat template", "the plain one" if world.chat.plain else "the model's own")]
    facts += [("attention", world.policy.attention + (f": {world.policy.note}" if world.policy.note else ""))]
    if stage.examples is not None:
        samples, more = _recorded(stage, stage.examples, world)
    else:
        samples, more = tuple(_prompt_only(world, prompt) for prompt in prompts(rows[:SHOWN])), _sampled(world, rows)
    stats = probe_judge(stage, world, PROBED)
    more += facts_of(stats) if stats is not None else []
    return Preflight(samples, (*facts, *more, *_memory(stage, world)))


def _recorded(
    stage: Stage, examples: Examples, world: World
) -> tuple[tuple[tuple[Piece, ...], ...], list[tuple[str, str]]]:
    """Samples and facts for rows that carry their responses."""
    rows = list(islice(world.rows, MEASURED))
    data = examples(replace(world, rows=rows), 0)
    if not data.examples:
        raise InputError(f"no training example in the first {len(rows)} rows: {dict(data.summary)}")
    if _unfinished(data):
        one = next(row for row in rows if _unfinished(examples(replace(world, rows=[row]), 0)))
        where = one.where if isinstance(one, Prompt) else one.prompt.where
        raise bad_row("a response without an end-of-turn token", where, field="token_ids")
    trees = [stage.objective.tree(example) for example in data.examples]
    mean = sum(map(len, trees)) / len(trees)
    count = round(len(world.rows) * len(data.examples) / len(rows))
    steps = -(-count // stage.update.batch_size) * stage.update.epochs * stage.rounds
    tokens = mean * count * stage.update.epochs
    weights = sum(weight.numel() for weight in world.policy.model.parameters())
    facts = [
        ("stop token", f"trained: every response ends with {_ends(world, _used(world, trees))}"),
        ("distinct tokens", f"{mean:.0f} an example, {mean * stage.update.batch_size:.0f} an optimizer step"),
        ("optimizer steps", f"{steps}"),
        ("compute", f"{8 * weights * tokens:.2g} FLOPs: 6 a weight and token for the policy, 2 for the reference"),
        ("loss before step 1", _first_loss(stage, world, data.examples[:SHOWN])),
    ]
    return tuple(_pieces(world, tree) for tree in trees[:SHOWN]), facts


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
    moved = sum(weight.numel() for weight in trainable(world.policy).values())
    weights = sum(weight.numel() for weight in world.policy.model.parameters())
    size = torch.finfo(world.policy.dtype).bits // 8
    gigabytes = (weights * size * 2 + moved * (size + 8)) / 2**30
    return [
        ("weights", f"{weights:,}, of which {moved:,} are trained"),
        (
            "memory for weights",
            f"about {gigabytes:.2f} GiB: policy, frozen reference, gradients, two optimizer moments",
        ),
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
