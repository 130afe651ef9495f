"""Rotary positions whose frequencies depend on the longest row of a call, and rows kept apart for their sake.

LongRoPE (Phi-3, Phi-4-mini) has one table of frequencies for short rows and one for long ones, and "dynamic" one for
every length past the trained one. Transformers takes the table of a whole call from its longest row, and "dynamic"
remembers that of earlier calls, so a short row beside a long one gets other numbers than alone. Here only rows of one
table share a call.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import torch
from jaxtyping import Int, Shaped
from torch import Tensor, nn

from uptake.models.packing import pack
from uptake.models.tree import Packed, TokenTree

_ORIGINAL: Final = "original_inv_freq"


@dataclass(frozen=True, slots=True)
class RopeTables:
    """Tables of rotary frequencies by the length of a row, in tokens.

    Rows of up to `switch` tokens share one. Longer rows share another, or, `by_length`, only those of equal length do.
    """

    switch: int
    by_length: bool

    def of(self, length: int) -> int:
        """A number that rows have in common where they have a table in common; 0 up to the switch."""
        return 0 if length <= self.switch else length if self.by_length else 1


def declared_tables(config: Any) -> RopeTables | None:
    """The tables that a text model's configuration asks for; None where one table serves all lengths."""
    parameters = getattr(config, "rope_parameters", None) or {}
    kinds = [parameters, *(each for each in parameters.values() if isinstance(each, dict))]
    long = [each["original_max_position_embeddings"] for each in kinds if each.get("rope_type") == "longrope"]
    dynamic = any("dynamic" in str(each.get("rope_type")) for each in kinds)
    switches = {*long, config.max_position_embeddings} if dynamic else {*long}
    return RopeTables(min(switches), by_length=dynamic or len(switches) > 1) if switches else None


def forget_lengths(model: nn.Module) -> None:
    """Make every call of a model with "dynamic" frequencies as independent of earlier ones as its first was."""
    for module in model.modules():
        dynamic = "dynamic" in str(getattr(module, "rope_type", ""))
        if dynamic and not any(map(_forgets, module._forward_pre_hooks.values())):
            names = [name for name, _ in module.named_buffers(recurse=False) if name.endswith(_ORIGINAL)]
            prefixes = [name.removesuffix(_ORIGINAL) for name in names]
            module.register_forward_pre_hook(partial(_forget, prefixes=prefixes))


def _forgets(hook: Any) -> bool:
    return isinstance(hook, partial) and hook.func is _forget


def _forget(module: Any, _: object, *, prefixes: Sequence[str]) -> None:
    for prefix in prefixes:
        setattr(module, f"{prefix}max_seq_len_cached", module.original_max_seq_len)
        setattr(module, f"{prefix}inv_freq", getattr(module, f"{prefix}{_ORIGINAL}").clone())


TablePart = tuple[Packed, Int[Tensor, " _"]]


def apart(packed: Packed, tables: RopeTables) -> list[TablePart]:
    """A packed row as rows of one table each, beside the places of their wanted tokens among those of `packed`.

    The log-probabilities of a scored node are those of the plain row that ends with it, whatever comes after.
    """
    everything = torch.arange(len(packed.targets))
    if int(packed.positions.max()) + 1 + packed.lean <= tables.switch:
        return [(packed, everything)]
    # By table, then by tree: the scored nodes, and the numbers that they have among all of the row.
    chosen: defaultdict[int, defaultdict[int, dict[int, int]]] = defaultdict(lambda: defaultdict(dict))
    number = 0
    for index, tree in enumerate(packed.trees):
        for node, length in enumerate(_row_lengths(tree)):
            if tree.nodes[node].scored:
                chosen[tables.of(length)][index][node] = number
                number += 1
    places = everything.split(packed.lengths.tolist())
    # The last token of a row counts for its length, so that a row past the switch has to be laid out whole.
    return [
        (
            pack([_only(packed.trees[index], nodes) for index, nodes in trees.items()], lean=packed.lean and not table),
            torch.cat([places[number] for nodes in trees.values() for number in nodes.values()]),
        )
        for table, trees in sorted(chosen.items())
    ] or [(packed, everything)]


def joined(parts: Sequence[TablePart], found: Sequence[Shaped[Tensor, "_ *rest"]]) -> Shaped[Tensor, "wanted *rest"]:
    """What was found for the wanted tokens of each part, in the order of the row that the parts were taken from."""
    if len(parts) == 1:
        return found[0]
    order = torch.cat([places for _, places in parts]).argsort()
    return torch.cat(tuple(found))[order.to(found[0].device)]


def _row_lengths(tree: TokenTree) -> list[int]:
    """Tokens of the plain row that ends with each node."""
    lengths: list[int] = []
    for node in tree.nodes:
        lengths.append(len(node.ids) + (lengths[node.parent] if node.parent >= 0 else 0))
    return lengths


def _only(tree: TokenTree, scored: dict[int, int]) -> TokenTree:
    """The tree of some scored nodes and what comes before them."""
    wanted = set(scored)
    for index in reversed(range(1, len(tree.nodes))):
        if index in wanted:
            wanted.add(tree.nodes[index].parent)
    new = {index: position for position, index in enumerate(sorted(wanted))}
    return TokenTree(
        tuple(
            replace(tree.nodes[index], parent=new.get(tree.nodes[index].parent, -1), scored=index in scored)
            for index in new
        )
    )
