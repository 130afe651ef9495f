"""Objectives against plain rows through the model's own forward call: losses, gradients, references."""

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import WORDS, pair_records, tiny_llama, tiny_tokenizer, tiny_world
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from uptake.errors import InputError
from uptake.examples.preferences import PreferenceRows
from uptake.losses.pairwise import IPO, Hinge, Logistic, PairKernel, Robust
from uptake.models import LanguageModel, Node, TokenTree, add_lora, branches, pack
from uptake.objective import NextToken, Pairs
from uptake.reference import AdapterOff, Frozen, Given, RunningReference
from uptake.types import Pair
from uptake.update import Optimization, build_optimizer, optimizer_step, trainable
from uptake.world import World

BETA = 0.3
# PEFT still asks Transformers by an old name.

# The loss of margin h as a person would write it down.
BY_HAND: list[tuple[PairKernel, Callable[[Tensor], Tensor]]] = [
    (Logistic(BETA), lambda h: -torch.log(torch.sigmoid(BETA * h))),
    (
        Logistic(BETA, 0.1),
        lambda h: -0.9 * torch.log(torch.sigmoid(BETA * h)) - 0.1 * torch.log(torch.sigmoid(-BETA * h)),
    ),
    (
        Robust(BETA, 0.1),
        lambda h: (-0.9 * torch.log(torch.sigmoid(BETA * h)) + 0.1 * torch.log(torch.sigmoid(-BETA * h))) / 0.8,
    ),
    (IPO(BETA), lambda h: (h - 1 / (2 * BETA)) ** 2),
    (IPO(BETA, "token_mean"), lambda h: (h - 1 / (2 * BETA)) ** 2),
    (Hinge(BETA), lambda h: (1 - BETA * h).clamp(min=0)),
]


def policy(seed: int = 0) -> LanguageModel:
    return tiny_llama(seed, torch.float64)


def world(lm: LanguageModel, **models: LanguageModel) -> World:
    return replace(tiny_world(Path("unused"), pair_records(5), lm), models=models)


def pairs(lm: LanguageModel) -> list[Pair]:
    found: Sequence[Pair] = PreferenceRows()(world(lm), 0).examples
    return list(found)


def plain(lm: LanguageModel) -> PreTrainedModel:
    """The same weights without any of our attention, in training order of parameters."""
    model: PreTrainedModel = AutoModelForCausalLM.from_config(
        deepcopy(lm.base.config), dtype=lm.dtype, attn_implementation="sdpa"
    )
    model.load_state_dict(lm.base.state_dict())
    model.eval()
    return model


def response_logps(model: PreTrainedModel, prompt: Sequence[int], response: Sequence[int]) -> Tensor:
    ids = torch.tensor([[*prompt, *response]])
    logps: Tensor = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
    return logps.gather(1, ids[0, 1:, None])[len(prompt) - 1 :, 0]


def margin_by_hand(model: PreTrainedModel, frozen: PreTrainedModel, pair: Pair, mean: bool) -> Tensor:
    sides = []
    for ids in (pair.chosen_ids, pair.rejected_ids):
        with torch.no_grad():
            base = response_logps(frozen, pair.prompt_ids, ids)
        ratios = response_logps(model, pair.prompt_ids, ids) - base
        sides.append(ratios.mean() if mean else ratios.sum())
    return sides[0] - sides[1]


@pytest.mark.parametrize(("kernel", "loss_of"), BY_HAND, ids=[str(kernel) for kernel, _ in BY_HAND])
def test_losses_and_gradients_from_plain_rows(kernel: PairKernel, loss_of: Callable[[Tensor], Tensor]) -> None:
    lm = policy()
    reference = Given().start(world(lm, reference=policy(1)))
    model, frozen = plain(lm), plain(policy(1))
    margins = torch.stack([margin_by_hand(model, frozen, pair, kernel.normalize == "token_mean") for pair in pairs(lm)])
    expected = loss_of(margins).sum()
    found = Pairs(kernel)(lm, reference, pairs(lm))
    torch.testing.assert_close(found.total, expected, atol=1e-9, rtol=1e-9)
    expected.backward()
    found.total.backward()
    by_name = dict(model.named_parameters())
    for name, weight in lm.base.named_parameters():
        assert weight.grad is not None
        # Transformers computes its norms in fp32 whatever the dtype, and so their gradients.
        torch.testing.assert_close(weight.grad, by_name[name].grad, atol=1e-4, rtol=1e-4)


def test_metrics_from_plain_rows() -> None:
    lm = policy()
    found = Pairs(Logistic(BETA))(lm, Given().start(world(lm, reference=policy(1))), pairs(lm)).metrics
    model, frozen = plain(lm), plain(policy(1))
    chosen, rejected, rewards = [], [], []
    for pair in pairs(lm):
        sides = pair.chosen_ids, pair.rejected_ids
        sums = [response_logps(model, pair.prompt_ids, ids).sum() for ids in sides]
        bases = [response_logps(frozen, pair.prompt_ids, ids).sum() for ids in sides]
        chosen.append(float(sums[0].detach()))
        rejected.append(float(sums[1].detach()))
        rewards.append([BETA * float((one - two).detach()) for one, two in zip(sums, bases, strict=True)])
    assert float(found["chosen_logp"]) == pytest.approx(sum(chosen))
    assert float(found["rejected_logp"]) == pytest.approx(sum(rejected))
    assert float(found["chosen_reward"]) == pytest.approx(sum(one for one, _ in rewards))
    assert float(found["rejected_reward"]) == pytest.approx(sum(two for _, two in rewards))
    assert float(found["margin"]) == pytest.approx(sum(one - two for one, two in rewards))
    assert float(found["accuracy"]) == sum(one > two for one, two in rewards)
    assert float(found["log_ratio"]) == pytest.approx(sum(map(sum, rewards)) / BETA / 2)


@pytest.mark.parametrize(
    ("kernel", "constant"),
    [
        (Logistic(BETA), math.log(2)),
        (Logistic(BETA, 0.2), math.log(2)),
        (Robust(BETA, 0.2), math.log(2)),
        (Hinge(BETA), 1.0),
        (IPO(BETA), 1 / (4 * BETA**2)),
        (IPO(BETA, "token_mean"), 1 / (4 * BETA**2)),
    ],
    ids=str,
)
def test_where_policy_is_reference_the_loss_is_a_constant(kernel: PairKernel, constant: float) -> None:
    lm = policy()
    found = Pairs(kernel)(lm, Frozen().start(world(lm)), pairs(lm))
    assert float(found.total.detach()) / 5 == pytest.approx(constant, abs=1e-12)
    assert float(found.metrics["accuracy"]) == 2.5  # ties count half


def test_the_end_of_turn_counts_and_the_prompt_does_not() -> None:
    """Pushing up the end token moves the chosen log-probability; only response tokens are summed."""
    lm = policy()
    pair = pairs(lm)[0]
    end = lm.tokenizer.eos_token_id
    assert pair.chosen_ids[-1] == pair.rejected_ids[-1] == end
    (chosen,) = (float(Pairs(Logistic())(lm, Frozen().start(world(lm)), [pair]).metrics["chosen_logp"]),)
    alone = response_logps(plain(lm), pair.prompt_ids, pair.chosen_ids)
    assert chosen == pytest.approx(float(alone.sum().detach()))
    assert abs(chosen - float(alone[:-1].sum().detach())) > 0.1


def test_swapping_a_pair() -> None:
    """L(h) - L(-h) = -beta h."""
    lm = policy()
    reference = Given().start(world(lm, reference=policy(1)))
    pair = pairs(lm)[0]
    one = Pairs(Logistic(BETA))(lm, reference, [pair])
    other = Pairs(Logistic(BETA))(lm, reference, [Pair(pair.prompt_ids, pair.rejected_ids, pair.chosen_ids)])
    assert float((one.total - other.total).detach()) == pytest.approx(-float(one.metrics["margin"]), abs=1e-10)


# --- references -------------------------------------------------------------------------------------------------------


def test_a_frozen_reference_stays_where_it_was() -> None:
    lm = policy()
    reference = Frozen().start(world(lm))
    before = logps(reference, lm)
    train(lm, reference, steps=2)
    torch.testing.assert_close(logps(reference, lm), before, atol=0, rtol=0)
    assert not torch.allclose(logps(Frozen().start(world(lm)), lm), before)


def test_the_adapter_switched_off_is_the_frozen_start() -> None:
    """At the start and after steps of the adapter; the adapter is on again after each call."""
    torch.manual_seed(0)
    lm = add_lora(policy(), rank=2, alpha=4)
    frozen, off = Frozen().start(world(lm)), AdapterOff().start(world(lm))
    before = logps(frozen, lm)
    torch.testing.assert_close(logps(off, lm), before, atol=1e-12, rtol=0)
    losses = train(lm, off, steps=3)
    torch.testing.assert_close(logps(off, lm), before, atol=1e-12, rtol=0)
    torch.testing.assert_close(logps(frozen, lm), before, atol=1e-12, rtol=0)
    assert losses[0] == pytest.approx(math.log(2), abs=1e-12)
    assert losses[-1] < losses[0]
    assert all("lora" in name for name in trainable(lm))


def test_adapter_off_needs_an_adapter() -> None:
    with pytest.raises(InputError, match="no adapter to switch off"):
        AdapterOff().start(world(policy()))


def test_references_carry_no_gradient() -> None:
    lm = policy()
    given = policy(1)
    reference = Given().start(world(lm, reference=given))
    Pairs(Logistic())(lm, reference, pairs(lm)).total.backward()
    assert all(weight.grad is None and not weight.requires_grad for weight in given.model.parameters())
    assert not logps(reference, lm).requires_grad


def test_a_given_reference_must_fit() -> None:
    lm = policy()
    with pytest.raises(InputError, match=r"called 'reference'; given: none"):
        Given().start(world(lm))
    other = tiny_llama(1, torch.float64, tiny_tokenizer(WORDS[::-1]))
    with pytest.raises(InputError, match=r"tiny-0 and tiny-1 have different tokenizers, for example '"):
        Given().start(world(lm, reference=other))
    with pytest.raises(InputError, match=r"float64 and the reference torch.float32"):
        Given().start(world(lm, reference=tiny_llama(1)))


def logps(reference: RunningReference, lm: LanguageModel) -> Tensor:
    return reference.token_logps(pack([Pairs(Logistic()).tree(pair) for pair in pairs(lm)]))


def train(lm: LanguageModel, reference: RunningReference, steps: int) -> list[float]:
    settings = Optimization(lr=1e-2)
    optimizer = build_optimizer(settings, trainable(lm).values())
    objective = Pairs(Logistic())
    return [optimizer_step(lm, reference, objective, pairs(lm), optimizer, settings)["loss"] for _ in range(steps)]


# --- next token -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", [0, 4])
def test_next_token_is_the_loss_of_transformers(prompt: int) -> None:
    """With and without a prompt, whose tokens Transformers leaves out where their label is -100."""
    lm = policy()
    ids = (2, 6, 9, 4, 3, 7, 11, 4)
    tree = branches(ids[:prompt], ids[prompt:]) if prompt else TokenTree((Node(ids),))
    row = torch.tensor([ids])
    labels = row.clone()
    labels[0, :prompt] = -100
    expected = plain(lm)(input_ids=row, labels=labels).loss
    objective = NextToken()
    found = objective(lm, Frozen().start(world(lm)), [tree])
    assert objective.size(tree) == len(ids) - max(prompt, 1)
    torch.testing.assert_close(found.total / objective.size(tree), expected.double(), atol=1e-6, rtol=0)


def test_next_token_averages_over_tokens_not_rows() -> None:
    lm = policy()
    long, short = TokenTree((Node((2, 6, 9, 4, 3, 7)),)), TokenTree((Node((2, 5)),))
    objective, reference = NextToken(), Frozen().start(world(lm))
    both = objective(lm, reference, [long, short]).total / (objective.size(long) + objective.size(short))
    rows = [response_logps(plain(lm), tree.nodes[0].ids[:1], tree.nodes[0].ids[1:]) for tree in (long, short)]
    torch.testing.assert_close(both, -torch.cat(rows).mean(), atol=1e-10, rtol=0)
