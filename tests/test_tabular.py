"""Whole runs of a policy that is a table: five words to answer with, whose best distribution is known.

Under one prompt and an annotator by Bradley and Terry with rewards r, the optimum of DPO against the start pi_0 is
`pi_0 exp(r / beta) / Z` (Rafailov et al. 2023, eq. 4). Prompts differ, so that samples do; the policy reads none of
them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from math import exp
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from test_follow_up_reward import flat, plain, toy
from tiny import WORDS, read_jsonl, tiny_llama, tiny_world
from torch import Tensor

from uptake import methods
from uptake.annotators.base import Annotator, AnnotatorSpec
from uptake.judge import PairwiseJudge
from uptake.models import LanguageModel
from uptake.recipe import Assess, Recipe
from uptake.rewards.base import Resources
from uptake.tasks.mine import mine
from uptake.train.loop import run
from uptake.types import Prompt, Verdict
from uptake.world import World

# The arms of the bandit, their rewards, and the logits that the policy starts with.
ARMS = ("eight", "nine", "bread", "cakes", "thanks")
REWARDS = torch.tensor([1.0, 0.5, 0.0, -0.5, -1.2], dtype=torch.float64)
START = torch.tensor([-1.0, 0.3, 1.2, 0.4, -0.2], dtype=torch.float64).log_softmax(0)
BETA = 0.5
GIBBS = torch.tensor([0.2631, 0.3552, 0.3214, 0.0531, 0.0072], dtype=torch.float64)
# Logit of every other token: nothing else is ever said.
NEVER = -30.0

ONE_WORD: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 1, "keep_unfinished": True}
UPDATE: dict[str, Any] = {"warmup": 0, "clip": None, "optimizer": "adamw", "schedule": "cosine", "micro_tokens": 4096}


def table(logits: Mapping[str, float]) -> LanguageModel:
    """A Llama that gives words these logits whatever it has read; only its last layer learns."""
    lm = tiny_llama()
    base: Any = lm.base
    base.requires_grad_(False)
    with torch.no_grad():
        base.model.embed_tokens.weight.fill_(1.0)
        for layer in base.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        width = base.config.hidden_size
        base.lm_head.weight.fill_(NEVER / width)
        for word, logit in logits.items():
            base.lm_head.weight[lm.tokenizer.convert_tokens_to_ids(word)] = logit / width
    base.lm_head.weight.requires_grad_(True)
    return lm


def start() -> LanguageModel:
    return table(dict(zip(ARMS, START.tolist(), strict=True)))


def probabilities(lm: LanguageModel) -> Tensor:
    """What the policy gives the arms, by a plain forward call."""
    with torch.no_grad():
        logits = lm.base(torch.tensor([[5, 6, 7]])).logits[0, -1].double()
    return logits.softmax(0)[lm.tokenizer.convert_tokens_to_ids([*ARMS])]


def prompts(count: int) -> list[dict[str, Any]]:
    every = [" ".join(words) for words in product(WORDS, repeat=3)]
    return [{"prompt": said} for said in Random(0).sample(every, count)]


@dataclass(frozen=True)
class BradleyTerryAnnotator(Annotator, AnnotatorSpec):
    """Prefers an arm to another with the probability that their rewards give it."""

    def build(self, resources: Resources) -> Annotator:
        return self

    @property
    def fingerprint(self) -> str:
        return "arms"

    def compare(self, prompts: Sequence[Prompt], pairs: Sequence[tuple[str, str]]) -> Sequence[Verdict]:
        rewards = dict(zip(ARMS, REWARDS.tolist(), strict=True))
        ps = [1 / (1 + exp(rewards[two] - rewards[one])) for one, two in pairs]
        return [Verdict(p, (p, p)) for p in ps]


def online(folder: Path, **options: Any) -> Tensor:
    """The policy that online AI feedback ends with."""
    given = {
        "judge": "oracle",
        "beta": BETA,
        "batch_size": 96,
        "steps": 30,
        "lr": 0.02,
        **ONE_WORD,
        **UPDATE,
        **options,
    }
    (stage,) = methods.build("oaif", given).stages
    recipe = Recipe((replace(stage, judge=PairwiseJudge(BradleyTerryAnnotator())),))
    return probabilities(run(recipe, tiny_world(folder, prompts(192), start())).policy)


@pytest.mark.parametrize(("label", "tolerance"), [("soft", 0.05), ("sampled", 0.1)])
def test_soft_and_sampled_labels_end_at_the_gibbs_policy(label: str, tolerance: float, tmp_path: Path) -> None:
    """Both have one optimum; drawn labels have noise on top. The start is further off, and hard labels much more."""
    found = online(tmp_path / "run", label=label)
    torch.testing.assert_close(found, GIBBS, atol=tolerance, rtol=0)
    assert float((START.exp() - GIBBS).abs().max()) > 2 * tolerance


def test_hard_labels_go_on_to_the_best_arm(tmp_path: Path) -> None:
    assert online(tmp_path / "run", label="hard")[0] > 0.9


def test_a_reference_that_follows_divides_beta_by_the_phases(tmp_path: Path) -> None:
    """Two phases at beta 1 end where one at 0.5 would; against the start, two rounds end at beta 1."""

    def end(reference: str) -> Tensor:
        given = {"ensemble": 1, "reference": reference, "label": "soft", "beta": 2 * BETA, "judge": "oracle"}
        rounds = {"batch_size": 64, "steps": 60, "steps_per_round": 30, "lr": 0.012}
        shape = ONE_WORD | UPDATE | {"schedule": "constant"}
        (stage,) = methods.build("bpo", {**given, **rounds, **shape}).stages
        recipe = Recipe((replace(stage, judge=PairwiseJudge(BradleyTerryAnnotator())),))
        return probabilities(run(recipe, tiny_world(tmp_path / reference, prompts(1920), start())).policy)

    once = (START + REWARDS / (2 * BETA)).softmax(0)
    torch.testing.assert_close(end("behaviour"), GIBBS, atol=0.06, rtol=0)
    torch.testing.assert_close(end("initial"), once, atol=0.06, rtol=0)
    assert float((once - GIBBS).abs().max()) > 2 * 0.06


def test_only_fresh_samples_find_an_arm_that_no_pair_holds(tmp_path: Path) -> None:
    """Offline DPO without the best arm leaves it behind the next one; online feedback ranks all arms by reward."""
    known = list(combinations(ARMS[1:], 2))
    rows = [
        {**row, "chosen": better, "rejected": worse} for row, (better, worse) in zip(prompts(6), known, strict=True)
    ]
    options = {"beta": BETA, "lr": 0.02, "batch_size": 6, "epochs": 30, **UPDATE}
    offline = run(methods.build("dpo", options), tiny_world(tmp_path / "offline", rows, start()))
    recorded = probabilities(offline.policy).log() - START
    assert recorded[1] == recorded.max()
    assert recorded[0] < recorded[2]
    fresh = online(tmp_path / "online", label="soft").log() - START
    assert fresh.argsort(descending=True).tolist() == [0, 1, 2, 3, 4]


@dataclass(frozen=True)
class Shorter(Annotator, AnnotatorSpec):
    """Prefers the shorter answer, by a price for every token."""

    price: float

    def build(self, resources: Resources) -> Annotator:
        return self

    @property
    def fingerprint(self) -> str:
        return repr(self)

    def compare(self, prompts: Sequence[Prompt], pairs: Sequence[tuple[str, str]]) -> Sequence[Verdict]:
        sizes = [(len(one.split()), len(two.split())) for one, two in pairs]
        ps = [1 / (1 + exp(-self.price * (two - one))) for one, two in sizes]
        return [Verdict(p, (p, p)) for p in ps]


def test_a_price_on_length_shortens_answers(tmp_path: Path) -> None:
    """Words and ends alike at the start, so that the chance of an end after any word says how long answers are."""
    ends = []
    for price in (0.0, 0.3, 1.0):
        policy = table({"bread": 1.0, "nine": 1.0, "<end>": 0.5})
        options = {"judge": "oracle", "beta": BETA, "label": "soft", "batch_size": 32, "steps": 14, "lr": 0.03}
        (stage,) = methods.build("oaif", {**options, **ONE_WORD, "max_new_tokens": 8, **UPDATE}).stages
        recipe = Recipe((replace(stage, judge=PairwiseJudge(Shorter(price))),))
        trained = run(recipe, tiny_world(tmp_path / str(price), prompts(64), policy)).policy
        logits: Any = trained.base(torch.tensor([[5]])).logits[0, -1]
        ends.append(logits.softmax(0)[trained.tokenizer.eos_token_id].item())
    assert ends[0] < ends[1] - 0.05
    assert ends[1] < ends[2] - 0.05


# --- follow-ups -------------------------------------------------------------------------------------------------------

PRAISE, BLAME = "good", "poor"


def reader() -> LanguageModel:
    """A model of users who say "good" rather than "poor" in so far as the answer is a good arm."""
    words = ("BOS", "END", "SEP", *ARMS, PRAISE, BLAME)
    rewards = dict(zip(ARMS, REWARDS.tolist(), strict=True))
    return toy({word: [4.0 * rewards.get(word, 0.0) * (after == PRAISE) for after in words] for word in words}, 1.0)


def followups(folder: Path) -> str:
    path = folder / "followups.yaml"
    flat([PRAISE], [BLAME]).save(path)
    return str(path)


def world(folder: Path, count: int) -> World:
    return tiny_world(folder, prompts(count), start(), models={"follow_up": reader()})


@dataclass(frozen=True)
class Shuffled:
    """A judge whose judgements of the responses to a prompt change places."""

    judge: Any

    def start(self, world: World) -> Assess:
        assess = self.judge.start(world)
        return lambda groups: [
            tuple(Random(group[0].prompt.key).sample(found, len(found)))
            for group, found in zip(groups, assess(groups), strict=True)
        ]


def gain(folder: Path, shuffled: bool) -> float:
    """By how much the mean reward of an answer rises with pairs of follow-up likelihood."""
    options = {
        "followups": followups(folder),
        "n": 4,
        "epochs": 3,
        "lr": 0.02,
        "batch_size": 16,
        "beta": BETA,
        **ONE_WORD,
    }
    more = {"min_margin_quantile": 0.0, "min_category_agreement": 0.0, **UPDATE}
    (stage,) = methods.build("follow_up_likelihood", {**options, **more}).stages
    recipe = Recipe((replace(stage, judge=Shuffled(stage.judge)) if shuffled else stage,))
    trained = run(recipe, world(folder / "run", 96))
    return float((probabilities(trained.policy) - START.exp()) @ REWARDS)


def test_pairs_of_follow_ups_raise_quality_and_shuffled_scores_do_not(tmp_path: Path) -> None:
    (tmp_path / "shuffled").mkdir()
    assert gain(tmp_path, shuffled=False) > 0.3
    assert abs(gain(tmp_path / "shuffled", shuffled=True)) < 0.1


@dataclass(frozen=True)
class ByHand(Annotator, AnnotatorSpec):
    """Prefers the answer after which the reader gives praise the higher likelihood, by plain calls of the model."""

    def build(self, resources: Resources) -> Annotator:
        return self

    @property
    def fingerprint(self) -> str:
        return "by hand"

    def compare(self, prompts: Sequence[Prompt], pairs: Sequence[tuple[str, str]]) -> Sequence[Verdict]:
        rewards = [[_reward(prompt, said) for said in pair] for prompt, pair in zip(prompts, pairs, strict=True)]
        ps = [0.5 if one == two else float(one > two) for one, two in rewards]
        return [Verdict(p, (p, p)) for p in ps]


def _reward(prompt: Prompt, said: str) -> float:
    lm = reader()
    ids = lm.tokenizer(f"SEP {prompt.turns[0].content} END {said} END SEP", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        logps = plain(lm)(ids).logits[0, -1].log_softmax(-1)
    praise, blame = lm.tokenizer.convert_tokens_to_ids([PRAISE, BLAME])
    return float(logps[praise] - logps[blame])


def test_follow_up_likelihood_as_annotator_is_a_reward_model_of_its_rewards(tmp_path: Path) -> None:
    """Online feedback by the one, with hard labels, and by the other ends with the same bits."""
    options = {"beta": BETA, "batch_size": 8, "steps": 3, "lr": 0.02, "label": "hard", **ONE_WORD, **UPDATE}
    judge = {"follow_up": {"followups": followups(tmp_path)}}
    (stage,) = methods.build("online_ai_feedback", {"judge": judge, **options}).stages
    for name, judged in (("one", stage), ("other", replace(stage, judge=PairwiseJudge(ByHand())))):
        run(Recipe((judged,)), world(tmp_path / name, 24))
    for name in ("metrics.jsonl", "model/model.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_online_pairs_on_disk_give_the_same_gradients(tmp_path: Path) -> None:
    """What online feedback has sampled and judged in a round, taken by DPO offline: the same bits at every step."""
    update = {"beta": BETA, "batch_size": 8, "lr": 0.02, **UPDATE}
    given = {"judge": "oracle", "label": "hard", "steps": 3, "steps_per_round": 3, **ONE_WORD, **update}
    (stage,) = methods.build("online_ai_feedback", given).stages
    recipe = Recipe((replace(stage, judge=PairwiseJudge(BradleyTerryAnnotator())),))
    fresh = tiny_world(tmp_path / "online", prompts(24), start())
    run(recipe, fresh)
    (line,) = read_jsonl(tmp_path / "online" / "rounds" / "0-0" / "judged.jsonl")
    rows = [
        _frozen(group, said["p"], fresh.chat.fingerprint)
        for group, said in zip(line["groups"], line["assessments"], strict=True)
    ]
    rows = [row for row in rows if row["chosen"] != row["rejected"]]
    steps = read_jsonl(tmp_path / "online" / "metrics.jsonl")
    # Equal samples make no pair, so that batches are cut as if there were so many rows.
    assert len(steps) == -(-len(rows) // 8)
    run(methods.build("dpo", {**update, "epochs": 1}), tiny_world(tmp_path / "offline", rows, start()))
    assert [
        {**line, "age": age} for age, line in enumerate(read_jsonl(tmp_path / "offline" / "metrics.jsonl"))
    ] == steps
    one, other = ((tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("online", "offline"))
    assert one == other


def _frozen(group: list[dict[str, Any]], p: float, tokenizer: str) -> dict[str, Any]:
    """A judged pair as a row with the ids that were sampled."""
    chosen, rejected = group if p >= 0.5 else group[::-1]
    ids = {"prompt": chosen["prompt_ids"], "chosen": chosen["response_ids"], "rejected": rejected["response_ids"]}
    said = [[{"role": "assistant", "content": each["response"]}] for each in (chosen, rejected)]
    turns = [{"role": each["role"], "content": each["content"]} for each in chosen["prompt"]["turns"]]
    return {"prompt": turns, "chosen": said[0], "rejected": said[1], "token_ids": {"tokenizer": tokenizer, **ids}}


def test_no_special_token_is_in_a_mined_text(tmp_path: Path) -> None:
    """A policy that says them anywhere: texts hold its words only, and what was cut off has no end in its ids."""
    special = ("<user>", "<assistant>", "<end>")
    policy = table(dict.fromkeys((*ARMS, *special), 0.0))
    options = {"followups": followups(tmp_path), "n": 6, **ONE_WORD, "max_new_tokens": 5, "max_length_ratio": 9.0}
    recipe = methods.build("flr", {**options, "min_margin_quantile": 0.0, "min_category_agreement": 0.0})
    mined = mine(recipe, replace(world(tmp_path / "work", 40), policy=policy), tmp_path / "pairs.jsonl")
    assert mined.pairs > 20
    seen = set()
    for row in read_jsonl(tmp_path / "pairs.jsonl"):
        for side in ("chosen", "rejected"):
            (turn,), ids = row[side], row["token_ids"][side]
            spelled = policy.tokenizer.convert_ids_to_tokens(ids)
            assert turn["content"].split() == [word for word in spelled if word not in special]
            assert "<end>" not in spelled[:-1]
            assert (spelled[-1] == "<end>") or len(ids) == 5
            seen.update(spelled)
    assert seen == {*ARMS, *special}
