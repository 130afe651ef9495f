"""Log-probabilities of a tree's tokens as one writes it by hand, through Transformers' own attention.

* Plain rows: every follow-up in a right-padded row behind its context.
* The key-value cache: the context once, its keys and values expanded to batches of follow-ups.
* A dense row: the whole tree in one row under a 4-D mask of who sees whom.

Linear layers are computed by the library that the trees use, and logits only where a token is asked for, unless a
function says otherwise.
"""

import copy

import torch
from torch import Tensor
from transformers import PreTrainedModel

from uptake.models import TokenTree
from uptake.models.products import fast_products

# Rows of a batch behind one cache, rows of a plain batch, and tokens whose logits stand at a time.
EXPANDED, PLAIN, CHUNK = 24, 8, 64


def plain_rows(model: PreTrainedModel, tree: TokenTree, *, everywhere: bool) -> Tensor:
    """Log-probabilities of the branches of a stem, a row each; logits `everywhere`, or of the branches only."""
    stem, *others = (list(node.ids) for node in tree.nodes)
    before, found = len(stem) - 1, list[Tensor]()
    for start in range(0, len(others), PLAIN):
        some = others[start : start + PLAIN]
        longest = max(map(len, some))
        ids = torch.tensor([[*stem, *one, *[0] * (longest - len(one))] for one in some])
        real = torch.arange(longest) < torch.tensor([len(one) for one in some])[:, None]
        mask = torch.cat((torch.ones(len(some), len(stem), dtype=torch.bool), real), 1).long()
        with fast_products(model.device):
            if everywhere:
                logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
                logps = logits.log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
                found.append(logps[:, before:][real])
            else:
                states = model.model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
                found.append(projected(model, states[:, before:-1][real], ids[:, len(stem) :][real]))
    return torch.cat(found)


def dense_row(model: PreTrainedModel, tree: TokenTree) -> Tensor:
    """Log-probabilities of all scored nodes; every token sees its ancestors."""
    starts, depths = [0], [0]
    stems: list[list[int]] = [[]]
    for index, node in enumerate(tree.nodes[1:], start=1):
        before = tree.nodes[node.parent]
        starts.append(starts[-1] + len(tree.nodes[index - 1].ids))
        depths.append(depths[node.parent] + len(before.ids))
        stems.append([*stems[node.parent], node.parent])
    hidden = torch.full((len(tree), len(tree)), -torch.inf)
    ids: list[int] = []
    positions: list[int] = []
    sources: list[int] = []
    targets: list[int] = []
    for node, start, depth, stem in zip(tree.nodes, starts, depths, stems, strict=True):
        rows = slice(start, start + len(node.ids))
        for index in stem:
            hidden[rows, starts[index] : starts[index] + len(tree.nodes[index].ids)] = 0
        hidden[rows, rows] = torch.full((len(node.ids),) * 2, -torch.inf).triu(1)
        ids += node.ids
        positions += range(depth, depth + len(node.ids))
        if node.scored:
            sources += [starts[node.parent] + len(tree.nodes[node.parent].ids) - 1, *range(start, rows.stop - 1)]
            targets += node.ids
    row = {"input_ids": torch.tensor([ids]), "position_ids": torch.tensor([positions])}
    with fast_products(model.device):
        states = model.model(**row, attention_mask=hidden[None, None], use_cache=False).last_hidden_state[0]
        return projected(model, states[sources], torch.tensor(targets))


def projected(model: PreTrainedModel, states: Tensor, targets: Tensor) -> Tensor:
    parts = zip(states.split(CHUNK), targets.split(CHUNK), strict=True)
    return torch.cat([model.lm_head(some).log_softmax(-1).gather(1, ids[:, None])[:, 0] for some, ids in parts])


def cached(model: PreTrainedModel, tree: TokenTree) -> Tensor:
    """Log-probabilities of the branches of a stem, whose keys and values are computed once and expanded."""
    stem, *others = (list(node.ids) for node in tree.nodes)
    with fast_products(model.device):
        begin = model.model(input_ids=torch.tensor([stem]), use_cache=True)
        first, found = begin.last_hidden_state[:, -1:], []
        for start in range(0, len(others), EXPANDED):
            some = others[start : start + EXPANDED]
            longest = max(map(len, some))
            cache = copy.deepcopy(begin.past_key_values)
            cache.batch_repeat_interleave(len(some))
            ids = torch.tensor([[*one, *[0] * (longest - len(one))] for one in some])
            real = torch.arange(longest) < torch.tensor([len(one) for one in some])[:, None]
            mask = torch.cat((torch.ones(len(some), len(stem), dtype=torch.bool), real), 1).long()
            states = model.model(input_ids=ids, attention_mask=mask, past_key_values=cache).last_hidden_state
            states = torch.cat((first.expand(len(some), -1, -1), states[:, :-1]), 1)
            found.append(projected(model, states[real], ids[real]))
    return torch.cat(found)
