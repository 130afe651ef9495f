"""Token reward model: the objective of a head that learns token labels."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from uptake.data.where import bad_row
from uptake.losses.scalar import bradley_terry
from uptake.losses.token_level import TokenKernel, token_rewards
from uptake.models import LanguageModel, Packed, TokenTree, branches, pack
from uptake.models.heads import token_values
from uptake.models.token_classifier import head_name
from uptake.objective.base import Loss, Objective
from uptake.reference import RunningReference
from uptake.types import Edit

# Means over some of the examples: of what, and over the share of which.
_MEANS = {
    "response_loss": ("response_losses", "labeled"),
    "edited_loss": ("edit_losses", "labeled_edits"),
    "pair_accuracy": ("won", "edited"),
    "edited_reward": ("edit_rewards", "edited"),
    "top1": ("found", "faulty"),
    "auroc": ("ranked", "faulty"),
}


@dataclass(frozen=True)
class TokenRewards(Objective):
    """Token reward loss: a kernel on the labels of a response and of its edits, all under one prompt in one tree.

    The head reads the state at the token itself. A side is the mean over the tokens that count, negative labels
    `bad_weight` times, the edits' side the mean over edits, and an example the sum of both sides; without an edit it
    has one. `consistency` adds that much of
    `-log sigmoid(mean r(edit) - mean r(response))`, the whole loss of a demoted example. Examples count by their
    weight. Raises InputError for a label beyond -1 and 1 where the kernel makes probabilities of labels.
    Source: Yoon et al. 2024 (arXiv 2407.16574) for the reduction.
    """

    kernel: TokenKernel
    consistency: float = 0.0
    bad_weight: float = 1.0

    def tree(self, example: Edit) -> TokenTree:
        return branches(example.prompt_ids, example.response.ids, *(each.ids for each in example.edits))

    def size(self, example: Edit) -> float:
        return example.weight

    def __call__(self, policy: LanguageModel, reference: RunningReference, examples: Sequence[Edit]) -> Loss:
        packed = pack([self.tree(example) for example in examples])
        outputs = token_values(policy, packed, head_name(self.kernel.logit))
        sides = [[each.response, *each.edits] for each in examples]
        if self.kernel.logit:
            _check_labels(examples)
        labels = outputs.new_tensor([label for side in sides for each in side for label in each.labels])
        share = self.kernel.counted(labels) * torch.where(labels < 0, self.bad_weight, 1.0)
        total = packed.node_sums(share.to(outputs.dtype))
        losses = packed.node_sums(self.kernel(outputs, labels) * share) / torch.where(total > 0, total, 1.0)
        rewards = token_rewards(outputs, self.kernel.logit)
        edits = outputs.new_tensor([float(len(each.edits)) for each in examples])
        owner = torch.arange(len(examples)).repeat_interleave(torch.tensor([len(side) for side in sides]))
        old, new = _by_side(losses, owner.to(losses.device), edits)
        before, after = _by_side(packed.node_means(rewards), owner.to(losses.device), edits)
        pair = torch.where(edits > 0, bradley_terry(after, before), 0.0)
        marked = outputs.new_tensor([float(not each.demoted) for each in examples])
        weight = outputs.new_tensor([each.weight for each in examples])
        loss = marked * (old + new) + (self.consistency * marked + 1 - marked) * pair
        metrics = {
            "loss": loss,
            "response_losses": marked * old,
            "edit_losses": marked * new,
            "won": (edits > 0) * ((after > before) + 0.5 * (after == before)),
            "response_reward": before,
            "edit_rewards": after,
            "labeled": marked,
            "labeled_edits": marked * (edits > 0),
            "edited": (edits > 0).to(outputs.dtype),
            **_ranks(packed, rewards.detach(), examples),
        }
        sums = {name: (weight * value.detach()).sum() for name, value in metrics.items()}
        return Loss((weight * loss).sum(), sums)

    def derived(self, metrics: Mapping[str, float]) -> Mapping[str, float]:
        """Metrics of some of the examples, as means over those: what has no edit says nothing of edits.

        Localization of faulty tokens is over responses with one: how often the lowest reward is at one, and AUROC.
        """
        return {name: metrics[sum_] / metrics[over] for name, (sum_, over) in _MEANS.items() if metrics[over]}


def _check_labels(examples: Iterable[Edit]) -> None:
    for example in examples:
        worst = max(abs(label) for each in (example.response, *example.edits) for label in each.labels)
        if worst > 1:
            allowed = "scores of spans from -1 to 1, or the loss mse"
            raise bad_row(f"a label of magnitude {worst}", example.where, field="spans", allowed=allowed)


def _by_side(
    values: Float[Tensor, " nodes"], owner: Int[Tensor, " nodes"], edits: Float[Tensor, " examples"]
) -> tuple[Float[Tensor, " examples"], Float[Tensor, " examples"]]:
    """Value of every example's response, which is its first node, and the mean value of its edits."""
    first = torch.ones_like(owner, dtype=torch.bool)
    first[1:] = owner[1:] != owner[:-1]
    total = values.new_zeros(len(edits)).index_add(0, owner[~first], values[~first])
    return values[first], total / edits.clamp(min=1)


def _ranks(packed: Packed, rewards: Float[Tensor, " wanted"], examples: Sequence[Edit]) -> dict[str, Tensor]:
    """Ranks by example: whether tokens are faulty, whether the lowest reward is at one, and their AUROC by -reward."""
    nodes = iter(packed.per_node(rewards))
    faulty, found, ranked = [], [], []
    for example in examples:
        values, *_ = [next(nodes) for _ in range(1 + len(example.edits))]
        bad = values.new_tensor(example.response.labels) < 0
        some = bool(bad.any()) and not example.demoted
        ahead = values[bad][:, None] - values[~bad]
        area = ((ahead < 0) + 0.5 * (ahead == 0)).mean() if some and not bool(bad.all()) else values.new_tensor(0.5)
        faulty.append(float(some))
        found.append(float(some and bool(bad[values.argmin()])))
        ranked.append(float(area) if some else 0.0)
    each = {"faulty": faulty, "found": found, "ranked": ranked}
    return {name: rewards.new_tensor(values) for name, values in each.items()}
