"""Token reward models: golden losses, labels of rows, a run whose folder plain Transformers reads, and the judge."""

import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_loop import same_run
from test_token_spans import chat as trained_chat
from tiny import (
    WORDS,
    command_line,
    in_process,
    one_group,
    read_jsonl,
    saved,
    tiny_llama,
    tiny_tokenizer,
    tiny_world,
    write_jsonl,
)
from torch import Tensor
from transformers import AutoModelForTokenClassification

from uptake import methods
from uptake.data import ChatFormat, to_row
from uptake.data.response_tokens import response_tokens, rollout_offsets
from uptake.errors import InputError, ModelError
from uptake.examples.edit_labels import EditLabels
from uptake.examples.edits import EditedRows, as_edited
from uptake.losses.scalar import bradley_terry
from uptake.losses.token_level import CrossEntropy, SquaredError, TokenKernel, token_rewards
from uptake.models import LanguageModel, add_lora, branches, pack, save_model
from uptake.models.heads import AddHead, ScalarHead, token_values
from uptake.models.token_classifier import head_name
from uptake.objective import TokenRewards
from uptake.reference import NoReference
from uptake.rewards.token_reward import load_token_reward
from uptake.rewards.token_reward_model import TokenRewardSpec
from uptake.tasks.check import check
from uptake.town import CHAT_TEMPLATE
from uptake.train.loop import run
from uptake.types import Dropped, Edit, Prompt, Rollout, Turn
from uptake.update import Optimization, build_optimizer, optimizer_step, trainable
from uptake.world import World

FAST: dict[str, Any] = {"lr": 2e-2, "batch_size": 8, "epochs": 30, "micro_tokens": 60, "weight_decay": 0.0}
RECORDS: list[dict[str, Any]] = [
    {"prompt": "when does the bakery open ?", "completion": "at nine .", "edited": "at eight ."},
    {"prompt": "where does it sell bread ?", "completion": "it thanks bread .", "edited": "it bread ."},
    {"prompt": "when does it close ?", "completion": "at .", "edited": "at nine ."},
    {"prompt": "does it open ?", "completion": "wrong at eight .", "spans": [{"start": 0, "end": 5, "label": "bad"}]},
    {"prompt": "does it close ?", "completion": "at nine .", "spans": []},
]


# --- losses -----------------------------------------------------------------------------------------------------------


def test_golden_losses() -> None:
    one, other = torch.tensor([-2.0, 0.0, 1.0]), torch.tensor([2.0, 0.5])
    bad, good = torch.tensor([-1.0, 0.0, 0.0]), torch.tensor([1.0, 0.0])
    soft, hard = CrossEntropy(), CrossEntropy(hard=True)
    assert soft(one, bad).tolist() == pytest.approx([0.126928, 0.693147, 0.813262], abs=1e-6)
    assert soft(other, good).tolist() == pytest.approx([0.126928, 0.724077], abs=1e-6)
    assert float(soft(one, bad).mean() + soft(other, good).mean()) == pytest.approx(0.969948, abs=1e-6)
    assert hard.counted(bad).tolist() == [True, False, False]
    sides = [hard(logits, labels)[hard.counted(labels)].mean() for logits, labels in ((one, bad), (other, good))]
    assert float(sum(sides)) == pytest.approx(0.253856, abs=1e-6)
    assert float(soft(torch.tensor([0.8]), torch.tensor([-0.5]))) == pytest.approx(0.971101, abs=1e-6)
    outputs, labels = torch.tensor([0.2, -0.1, 0.3]), torch.tensor([-1.0, 0.0, 1.0])
    assert float(SquaredError()(outputs, labels).mean()) == pytest.approx(0.646667, abs=1e-6)
    means = torch.tensor([0.35]), torch.tensor([-0.233333])
    assert float(bradley_terry(*means)) == pytest.approx(0.443426, abs=1e-6)


def test_golden_rewards_pass_no_second_softmax() -> None:
    found = token_rewards(torch.tensor([-2.0, 0.0, 0.5, 1.0, 2.0]), logit=True).tolist()
    assert found == pytest.approx([-0.761594, 0, 0.244919, 0.462117, 0.761594], abs=1e-6)
    assert token_rewards(torch.tensor([-2.0, 3.0]), logit=False).tolist() == [-2.0, 3.0]


def test_two_logits_are_one() -> None:
    logits = torch.randn(7, 2, dtype=torch.float64)
    labels = torch.linspace(-1, 1, 7, dtype=torch.float64)
    targets = torch.stack(((1 - labels) / 2, (1 + labels) / 2), 1)
    theirs = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    torch.testing.assert_close(CrossEntropy()(logits[:, 1] - logits[:, 0], labels), theirs, atol=1e-12, rtol=0)


def test_both_losses_are_least_at_the_mean_label() -> None:
    labels = torch.tensor([-1.0, 0.0, 0.0, 1.0, 0.5], dtype=torch.float64)
    for kernel in (SquaredError(), CrossEntropy()):
        output = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        for _ in range(500):
            (slope,) = torch.autograd.grad(kernel(output.expand(5), labels).mean(), output)
            output = (output - 0.3 * slope).detach().requires_grad_()
        assert float(token_rewards(output.detach(), kernel.logit)) == pytest.approx(float(labels.mean()), abs=1e-4)


# --- labels -----------------------------------------------------------------------------------------------------------


def edits_of(world: World, **options: Any) -> Sequence[Edit]:
    """The example of every row."""
    return EditedRows(EditLabels(**options), multi_edit="rows")(world, 0).examples


def marked(records: Sequence[dict[str, Any]], **options: Any) -> list[tuple[float, ...]]:
    """The labels of every response and of every edit."""
    edits = edits_of(tiny_world(Path("unused"), records), **options)
    return [tuple(each.labels) for edit in edits for each in (edit.response, *edit.edits)]


def rollouts_of(world: World) -> list[Rollout]:
    """Every response and every edit, as if it had been sampled."""
    return [
        Rollout(row.prompt, tuple(edit.prompt_ids), tuple(each.ids), text or "", finished=True)
        for row, edit in zip(map(as_edited, world.rows), edits_of(world), strict=True)
        for text, each in zip((row.response, row.edited), (edit.response, *edit.edits), strict=False)
    ]


def test_labels_by_hand() -> None:
    """Tokens are words, the last one ends the turn."""
    assert marked(RECORDS) == [
        (0, -1, 0, 0),
        (0, 1, 0, 0),
        (0, -1, 0, 0, 0),
        (0, 0, 0, 0),
        (0, -1, 0),
        (0, 1, 0, 0),
        (-1, 0, 0, 0, 0),
        (0, 0, 0, 0),
    ]
    assert marked(RECORDS[2:3], anchor=False)[0] == (0, 0, 0)


def test_characters_are_compared_where_tokens_would_say_too_much() -> None:
    record = {"prompt": "when ?", "completion": "it opens", "edited": "it opened"}
    chat = trained_chat("bytes")
    lm = tiny_llama(tokenizer=chat.tokenizer)
    world = replace(tiny_world(Path("unused"), [record], lm), chat=chat)
    (edit,) = edits_of(world, unit="char")
    for text, side in zip((record["completion"], record["edited"]), (edit.response, *edit.edits), strict=True):
        tokens = response_tokens(chat, (Turn("user", record["prompt"]),), text)
        for label, (_, end) in zip(side.labels, tokens.offsets, strict=True):
            inside = 7 < end <= len(text)
            assert (label != 0) == inside


@settings(max_examples=40)
@given(st.text("abc d", min_size=1, max_size=8), st.text("abc d", min_size=1, max_size=8), st.booleans())
def test_characters_and_tokens_agree_where_they_are_the_same(old: str, new: str, finished: bool) -> None:
    chat = character_chat()
    old, new = (text if text.strip() else "a" for text in (old, new))
    row = to_row({"prompt": "a", "completion": old, "edited": new, "finished": finished})
    world = World(characters(), chat, [row])
    assert edits_of(world, unit="char") == edits_of(world)


def characters() -> LanguageModel:
    return tiny_llama(tokenizer=character_chat().tokenizer)


def character_chat() -> ChatFormat:
    """Every character is a token, blanks too."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers  # noqa: PLC0415
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415

    letters = {letter: place for place, letter in enumerate(["<unk>", "<end>", "<user>", "<bot>", *"abcd "])}
    tokenizer = Tokenizer(models.WordLevel(letters, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    marks = {"eos_token": "<end>", "unk_token": "<unk>", "additional_special_tokens": ["<user>", "<bot>"]}
    template = (
        "{% for message in messages %}{{ '<user>' if message['role'] == 'user' else '<bot>' }}"
        "{{ message['content'] }}<end>{% endfor %}{% if add_generation_prompt %}<bot>{% endif %}"
    )
    return ChatFormat.of(PreTrainedTokenizerFast(tokenizer_object=tokenizer, **marks), template)


def test_an_unchanged_edit_is_a_row_where_nothing_was_found() -> None:
    same, nothing = marked(
        [
            {"prompt": "when ?", "completion": "at nine .", "edited": "at nine ."},
            {"prompt": "when ?", "completion": "at nine .", "edited": "at nine .", "spans": [], "edited_spans": []},
        ]
    )[::2]
    assert same == nothing == (0, 0, 0, 0)


def test_what_was_cut_off_has_no_end_and_loses_its_anchor() -> None:
    record = {"prompt": "when ?", "completion": "at nine", "edited": "at nine .", "finished": False}
    assert marked([record]) == [(0, 0), (0, 0, 1, 1)]
    assert examples_of([record]).summary["anchor_lost"] == 1


def test_the_prompt_is_cut_on_the_left_and_both_sides_stay_whole() -> None:
    world = tiny_world(Path("unused"), RECORDS[:1])
    (whole,) = EditedRows()(world, 0).examples
    (short,) = EditedRows(max_tokens=6)(world, 0).examples
    assert short.prompt_ids == whole.prompt_ids[-2:]
    assert (short.response, short.edits) == (whole.response, whole.edits)
    none = EditedRows(max_tokens=4)(world, 0)
    assert none.examples == []
    assert none.summary["dropped"] == {"longer than the window, or after other tokens": 1}


# --- examples ---------------------------------------------------------------------------------------------------------


def examples_of(records: Sequence[dict[str, Any]], lm: LanguageModel | None = None, **options: Any) -> Any:
    world = tiny_world(Path("unused"), records, lm)
    return EditedRows(**options)(world, 0)


def test_edits_of_one_group_average_their_labels() -> None:
    one = {**RECORDS[0], "group": "g"}
    (twice,) = examples_of([one, one]).examples
    (once,) = examples_of([one]).examples
    assert [*twice.response.labels] == [*once.response.labels] == [0, -1, 0, 0]
    (half,) = examples_of([one, {**one, "edited": one["completion"], "weight": 0.1}]).examples
    assert [*half.response.labels] == [0, -0.5, 0, 0]
    assert [[*edit.labels] for edit in half.edits] == [[0, 1, 0, 0], [0, 0, 0, 0]]
    assert half.weight == pytest.approx(0.55)
    assert len(examples_of([one, one], multi_edit="rows").examples) == 2
    assert len(examples_of([one, {**one, "group": "h"}, RECORDS[0]]).examples) == 3


def test_the_figures_by_hand() -> None:
    demoted = {"prompt": "when ?", "completion": "wrong .", "edited": "at nine .", "demoted": True}
    pair = {"prompt": "when ?", "chosen": "at nine .", "rejected": "wrong ."}
    summary = examples_of([*RECORDS, demoted, pair]).summary
    assert (summary["samples"], summary["examples"], summary["demoted"]) == (7, 7, 2)
    # New tokens 1 + 0 + 1; kept tokens of responses 3 + 4 + 3 + 4 + 4; tokens of edits 4 + 4 + 4.
    assert summary["q"] == pytest.approx(2 / (18 + 12))
    assert summary["labels"] == {
        "response": {"bad": 4, "neutral": 17, "good": 0},
        "edit": {"bad": 0, "neutral": 10, "good": 2},
    }
    assert summary["end_labels"]["response"] == {"bad": 0, "neutral": 5, "good": 0}
    assert (summary["without_negative"], summary["anchor_lost"], summary["ambiguous"]) == (1, 0, 0)


# --- the objective ----------------------------------------------------------------------------------------------------


def headed(kernel: TokenKernel, std: float = 0.5, dtype: torch.dtype = torch.float64) -> LanguageModel:
    lm = tiny_llama(dtype=dtype)
    torch.manual_seed(3)
    return replace(lm, heads=AddHead(head_name(kernel.logit), std, bias=not kernel.logit)(lm))


def outputs_by_hand(lm: LanguageModel, prompt: Sequence[int], response: Sequence[int]) -> Tensor:
    """The head on the states at the tokens of a response, from one plain row."""
    ids = torch.tensor([(*prompt, *response)])
    states = lm.base.base_model(input_ids=ids, use_cache=False).last_hidden_state[0]
    (head,) = lm.heads.values()
    found: Tensor = head(states[len(prompt) :])
    return found


MIXED = [
    {**RECORDS[0], "group": "g"},
    {**RECORDS[0], "group": "g", "edited": "at eight thanks ."},
    *RECORDS[1:],
    {"prompt": "when ?", "chosen": "at nine .", "rejected": "wrong ."},
    {**RECORDS[1], "weight": 0.25},
]


@pytest.mark.parametrize("kernel", [SquaredError(), CrossEntropy(), CrossEntropy(hard=True)])
@pytest.mark.parametrize(("consistency", "bad_weight"), [(0.0, 1.0), (0.3, 1.0), (0.3, 0.2), (0.0, 5.0)])
def test_the_loss_is_that_of_plain_rows(kernel: TokenKernel, consistency: float, bad_weight: float) -> None:
    lm = headed(kernel)
    examples = examples_of(MIXED, lm).examples
    objective = TokenRewards(kernel, consistency, bad_weight)
    loss = objective(lm, NoReference().start(tiny_world(Path("unused"), [], lm)), examples)
    total = torch.zeros((), dtype=torch.float64)
    for example in examples:
        sides = [[example.response], list(example.edits)]
        losses, means = [], []
        for side in sides:
            outputs = [outputs_by_hand(lm, example.prompt_ids, each.ids) for each in side]
            means.append([token_rewards(each, kernel.logit).mean() for each in outputs])
            of_side = []
            for each, marked in zip(outputs, side, strict=True):
                labels = torch.tensor(marked.labels, dtype=torch.float64)
                kept = kernel.counted(labels)
                times = torch.tensor([bad_weight if label < 0 else 1.0 for label in labels[kept]])
                each_loss = (kernel(each, labels)[kept] * times).sum() / times.sum()
                of_side.append(each_loss if kept.any() else torch.zeros(()))
            losses.append(sum(of_side) / max(1, len(of_side)))
        pair = -torch.sigmoid(sum(means[1]) / len(means[1]) - means[0][0]).log() if means[1] else 0.0
        total = total + example.weight * (pair if example.demoted else losses[0] + losses[1] + consistency * pair)
    torch.testing.assert_close(loss.total, total, atol=1e-5, rtol=1e-6)
    weights = [*trainable(lm).values()]
    by_hand = torch.autograd.grad(total, weights, allow_unused=True)
    ours = torch.autograd.grad(loss.total, weights, allow_unused=True)
    for one, other in zip(ours, by_hand, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_a_zero_head_has_the_loss_of_the_labels() -> None:
    examples = examples_of(RECORDS[:3]).examples
    squares = [torch.tensor(each.labels).square().mean() for row in examples for each in (row.response, *row.edits)]
    found = {}
    for kernel in (SquaredError(), CrossEntropy()):
        lm = headed(kernel, std=0.0)
        nothing = NoReference().start(tiny_world(Path("unused"), [], lm))
        found[kernel.logit] = float(TokenRewards(kernel)(lm, nothing, examples).total.detach()) / 3
    assert found[False] == pytest.approx(float(sum(squares)) / 3, abs=1e-6)
    assert found[True] == pytest.approx(2 * 0.6931472, abs=1e-6)


def test_soft_is_hard_where_everything_was_edited() -> None:
    (row,) = examples_of(RECORDS[:1]).examples
    edits = tuple(replace(each, labels=(1.0,) * 4) for each in row.edits)
    full = replace(row, response=replace(row.response, labels=(-1.0,) * 4), edits=edits)
    lm = headed(CrossEntropy())
    nothing = NoReference().start(tiny_world(Path("unused"), [], lm))
    soft, hard = (TokenRewards(CrossEntropy(hard=each))(lm, nothing, [full]) for each in (False, True))
    torch.testing.assert_close(soft.total, hard.total, atol=1e-12, rtol=0)


def test_later_tokens_change_no_earlier_reward() -> None:
    lm = headed(SquaredError())
    (row,) = examples_of(RECORDS[:1], lm).examples
    ids = tuple(row.response.ids)
    one, other = (
        token_values(lm, pack([branches(row.prompt_ids, each)]), "token_reward") for each in (ids, (*ids[:2], 7, 8, 9))
    )
    torch.testing.assert_close(one[:2], other[:2], atol=1e-12, rtol=0)
    assert not torch.allclose(one[2:4], other[2:4])


def test_the_metrics_by_hand() -> None:
    lm = headed(SquaredError())
    examples = examples_of(RECORDS, lm).examples
    nothing = NoReference().start(tiny_world(Path("unused"), [], lm))
    objective = TokenRewards(SquaredError())
    metrics = {name: float(value) for name, value in objective(lm, nothing, examples).metrics.items()}
    hits, areas = [], []
    for example in examples:
        values = outputs_by_hand(lm, example.prompt_ids, example.response.ids).tolist()
        bad = [label < 0 for label in example.response.labels]
        if any(bad):
            hits.append(bad[min(range(len(values)), key=values.__getitem__)])
            good = [v for v, b in zip(values, bad, strict=True) if not b]
            wrong = [v for v, b in zip(values, bad, strict=True) if b]
            areas.append(sum(w < g for w in wrong for g in good) / (len(wrong) * len(good)))
    assert metrics["faulty"] == len(hits) == 4
    found = objective.derived(metrics)
    assert (found["top1"], found["auroc"]) == pytest.approx((sum(hits) / 4, sum(areas) / 4))
    assert not {"top1", "auroc"} & objective.derived({**metrics, "faulty": 0.0}).keys()


def test_what_has_no_edit_or_labels_dilutes_no_metric_of_those() -> None:
    lm = headed(SquaredError())
    (row,) = examples_of(RECORDS[:1], lm).examples
    nothing, objective = NoReference().start(tiny_world(Path("unused"), [], lm)), TokenRewards(SquaredError())
    alone, demoted = replace(row, edits=()), replace(row, demoted=True)

    def figures(*examples: Edit) -> dict[str, float]:
        sums = objective(lm, nothing, examples).metrics
        return dict(objective.derived({name: float(value) / len(examples) for name, value in sums.items()}))

    whole = figures(row)
    edits = {name: whole[name] for name in ("pair_accuracy", "edited_reward", "edited_loss")}
    assert edits.items() <= {name: pytest.approx(value) for name, value in figures(row, alone).items()}.items()
    assert not edits.keys() & figures(alone).keys()
    assert figures(row, demoted) == pytest.approx(whole | {"top1": whole["top1"]})
    assert not {"response_loss", "edited_loss"} & figures(demoted).keys()


@pytest.mark.parametrize("micro_tokens", [1, 40])
def test_micro_batches_add_up_to_the_big_batch(micro_tokens: int) -> None:
    objective = TokenRewards(CrossEntropy(), 0.5)
    results = []
    for budget in (micro_tokens, 10**6):
        lm = headed(CrossEntropy())
        settings = Optimization(lr=1e-2, micro_tokens=budget)
        optimizer = build_optimizer(settings, trainable(lm).values())
        reference = NoReference().start(tiny_world(Path("unused"), [], lm))
        metrics = optimizer_step(lm, reference, objective, examples_of(MIXED, lm).examples, optimizer, settings)
        results.append((metrics, trainable(lm)))
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-6)  # gradients are summed in another order
    for name, weight in results[0][1].items():
        torch.testing.assert_close(weight, results[1][1][name], atol=1e-7, rtol=0)


def test_labels_that_are_no_probabilities_are_refused(tmp_path: Path) -> None:
    record = {**RECORDS[3], "spans": [{"start": 0, "end": 5, "score": -2.0}]}
    path = write_jsonl(tmp_path / "rows.jsonl", [record])
    from uptake import read  # noqa: PLC0415

    world = tiny_world(tmp_path / "run", [])
    world = replace(world, rows=read(path))
    with pytest.raises(InputError, match=r"rows.jsonl:1, field 'spans': a label of magnitude 2"):
        run(methods.build("token_reward_model", {**FAST, "loss": "soft_ce"}), world)


def test_rows_of_another_kind_are_refused() -> None:
    with pytest.raises(InputError, match="neither edit nor spans"):
        marked([{"prompt": "when ?", "completion": "at nine ."}])


# --- a run ------------------------------------------------------------------------------------------------------------


def plain_rewards(folder: Path, rollouts: Sequence[Rollout]) -> list[list[float]]:
    """What Transformers alone makes of a folder."""
    model: Any = AutoModelForTokenClassification.from_pretrained(folder).eval()
    found = []
    for each in rollouts:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([(*each.prompt_ids, *each.response_ids)])).logits[0]
        own = logits[len(each.prompt_ids) :]
        found.append((own[:, 0] if own.shape[1] == 1 else 2 * own.softmax(-1)[:, 1] - 1).tolist())
    return found


@pytest.mark.parametrize(("loss", "lora"), [("mse", 0), ("soft_ce", 0), ("mse", 4)])
def test_a_run_leaves_a_token_classifier_with_the_same_rewards(loss: str, lora: int, tmp_path: Path) -> None:
    policy = tiny_llama()
    torch.manual_seed(0)
    policy = add_lora(policy, rank=lora) if lora else policy
    world = run(
        methods.build("token_reward_model", {**FAST, "loss": loss}), tiny_world(tmp_path / "run", RECORDS, policy)
    )
    first, *_, last = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    assert last["loss"] < first["loss"] - 0.05
    assert last["top1"] == 1.0
    folder = tmp_path / "run" / "model"
    rollouts = rollouts_of(world)
    expected = plain_rewards(folder, rollouts)
    (head,) = world.policy.heads.values()
    kind = next(iter(world.policy.heads))
    trees = pack([branches(each.prompt_ids, each.response_ids) for each in rollouts])
    with torch.no_grad():
        ours = trees.per_node(token_rewards(token_values(world.policy, trees, kind), kind == "token_logit"))
    found = one_group(TokenRewardSpec(str(folder)))(world, rollouts)
    for each, own, judgement, rollout in zip(expected, ours, found, rollouts, strict=True):
        assert own.tolist() == pytest.approx(each, abs=1e-4)
        assert list(judgement.tokens) == pytest.approx(each, abs=1e-4)
        assert len(judgement.tokens) == len(rollout.response_ids)
        assert judgement.score == pytest.approx(sum(each), abs=1e-4)
    assert isinstance(head, ScalarHead)


def test_gpt2_has_its_classifier_elsewhere(tmp_path: Path) -> None:
    from tiny_models import ready, tiny  # noqa: PLC0415

    lm = ready(tiny("GPT2"))
    torch.manual_seed(1)
    lm = replace(lm, heads=AddHead("token_reward", std=0.5, bias=True)(lm))
    save_model(lm, "{{ messages[0]['content'] }}", tmp_path / "model")
    rollout = Rollout(Prompt((Turn("user", "w1"),), "k"), (5, 6), (7, 8, 9), "w", True)
    with torch.no_grad():
        values = token_values(lm, pack([branches(rollout.prompt_ids, rollout.response_ids)]), "token_reward").tolist()
    assert plain_rewards(tmp_path / "model", [rollout])[0] == pytest.approx(values, abs=1e-4)


def test_killed_and_resumed(tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "rows.jsonl", RECORDS)
    policy = saved(tiny_llama(), tmp_path / "policy")
    sets = [f"--set={name}={value}" for name, value in {**FAST, "epochs": 2, "batch_size": 4}.items()]
    given = ["train", "token_rm", "--policy", str(policy), "--data", str(data), "--save-every", "2", *sets]
    assert in_process(command_line, [*given, "--out", str(tmp_path / "whole")]) == 0
    moment = ("open", "00000002.partial/manifest.json", 1)
    arguments = [*given, "--out", str(tmp_path / "killed")]
    assert in_process(command_line, arguments, moment) == -signal.SIGKILL
    assert in_process(command_line, [*arguments, "--resume"]) == 0
    assert same_run(tmp_path / "killed", tmp_path / "whole")
    assert (tmp_path / "whole" / "report.html").exists()


def test_the_preflight_knows_edited_rows(tmp_path: Path) -> None:
    cut_off = {"prompt": "when ?", "completion": "at nine", "edited": "at nine .", "finished": False}
    facts = dict(check(methods.build("token_rm"), tiny_world(tmp_path, [*RECORDS, cut_off])).facts)
    assert facts["rows"] == "6"
    assert "loss before step 1" in facts


# --- the judge --------------------------------------------------------------------------------------------------------


def scorer(lm: LanguageModel, folder: Path) -> LanguageModel:
    """A random token reward model as it is loaded from its folder."""
    torch.manual_seed(5)
    lm = replace(lm, heads=AddHead("token_reward", std=0.5, bias=True)(lm))
    save_model(lm, lm.tokenizer.chat_template or CHAT_TEMPLATE, folder)
    return load_token_reward(folder, dtype="float32")


def said(chat: ChatFormat, text: str, finished: bool = True) -> Rollout:
    prompt = Prompt((Turn("user", "when does it open ?"),), "k")
    tokens = response_tokens(chat, prompt.turns, text, finished=finished)
    return Rollout(prompt, tokens.prompt_ids, tokens.ids, text, finished)


def test_another_tokenizer_gets_the_same_sum(tmp_path: Path) -> None:
    """The policy writes bytes; the reward model reads words."""
    chat = trained_chat("bytes")
    reward = scorer(tiny_llama(), tmp_path / "model")
    world = World(tiny_llama(tokenizer=chat.tokenizer), chat, models={"token_reward": reward})
    rollouts = [said(chat, "it opens at eight ."), said(chat, "at nine", finished=False), said(chat, "thanks")]
    found = one_group(TokenRewardSpec())(world, rollouts)
    own = ChatFormat.of(reward)
    for rollout, judgement in zip(rollouts, found, strict=True):
        theirs = said(own, rollout.response, rollout.finished)
        (values,) = plain_rewards(tmp_path / "model", [theirs])
        assert len(judgement.tokens) == len(rollout.response_ids)
        assert judgement.score == pytest.approx(sum(values), abs=1e-4)
        if rollout.finished:
            assert judgement.tokens[-1] == pytest.approx(values[-1], abs=1e-4)
    # "it" is the first token of the reward model and the first two letters of the policy's.
    theirs = said(own, rollouts[0].response)
    (values,) = plain_rewards(tmp_path / "model", [theirs])
    offsets = rollout_offsets(chat.tokenizer, rollouts[0])
    first = sum(value for value, (_, end) in zip(found[0].tokens, offsets, strict=True) if end <= 2)
    assert first == pytest.approx(values[0], abs=1e-4)


def test_a_value_after_what_was_cut_off_stays_with_the_last_token(tmp_path: Path) -> None:
    """The policy's words leave out the blank at the end, for which the reward model has a token of its own."""
    reward = scorer(tiny_llama(tokenizer=trained_chat("bytes").tokenizer), tmp_path / "model")
    world = World(tiny_llama(), ChatFormat.of(tiny_tokenizer()), models={"token_reward": reward})
    rollout = said(world.chat, "at nine ", finished=False)
    theirs = said(ChatFormat.of(reward), "at nine ", finished=False)
    assert reward.tokenizer.decode(theirs.response_ids[-1:]) == " "
    (values,) = plain_rewards(tmp_path / "model", [theirs])
    (judgement,) = one_group(TokenRewardSpec())(world, [rollout])
    assert len(judgement.tokens) == len(rollout.response_ids) == 2
    assert judgement.score == pytest.approx(sum(values), abs=1e-4)


def test_ids_that_spell_another_text_are_not_placed(tmp_path: Path) -> None:
    chat = trained_chat("bytes")
    reward = scorer(tiny_llama(), tmp_path / "model")
    world = World(tiny_llama(tokenizer=chat.tokenizer), chat, models={"token_reward": reward})
    good = said(chat, "at nine")
    found = one_group(TokenRewardSpec())(world, [replace(good, response="at eight"), good])
    assert [each.valid for each in found] == [False, True]
    assert "the tokens spell 'at nine', the response is 'at eight'" in found[0].detail


def test_rewards_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    reward = scorer(tiny_llama(), tmp_path / "model")
    world = World(tiny_llama(seed=1), ChatFormat.of(tiny_tokenizer()), models={"token_reward": reward})
    rollouts = [said(world.chat, " ".join(WORDS[:count])) for count in (1, 9, 3, 17)]
    together = one_group(TokenRewardSpec())(world, rollouts)
    for rollout, judgement in zip(rollouts, together, strict=True):
        (alone,) = one_group(TokenRewardSpec())(world, [rollout])
        assert alone.tokens == pytest.approx(judgement.tokens, abs=1e-5)


def test_a_model_that_says_the_token_s_own_id_gives_back_the_response() -> None:
    """Reward and token stand at the same place, whatever the length of the prompt: no shift by one anywhere."""
    lm = tiny_llama()
    weights = dict(lm.base.named_parameters())
    with torch.no_grad():
        for name, weight in weights.items():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                weight.zero_()  # the state of a token is then its embedding, at length 4
        ids = torch.arange(len(lm.tokenizer), dtype=torch.float32) / 100
        embedding = weights["model.embed_tokens.weight"]
        embedding.zero_()
        embedding[:, 0], embedding[:, 1] = ids, (1 - ids**2).sqrt()
        head = ScalarHead(embedding.shape[1])
        head.weight[0, 0] = 100 / 4
    reward = replace(lm, heads={"token_reward": head})
    world = World(tiny_llama(seed=1), ChatFormat.of(tiny_tokenizer()), models={"token_reward": reward})
    rollouts = [said(world.chat, " ".join(WORDS[:count])) for count in (1, 5, 2)]
    rollouts = [replace(each, prompt_ids=each.prompt_ids[place:]) for place, each in enumerate(rollouts)]
    for rollout, judgement in zip(rollouts, one_group(TokenRewardSpec())(world, rollouts), strict=True):
        assert judgement.tokens == pytest.approx(rollout.response_ids, abs=1e-3)


def test_what_cannot_be_rated_says_why(tmp_path: Path) -> None:
    reward = scorer(tiny_llama(max_position_embeddings=12), tmp_path / "model")
    world = World(tiny_llama(), ChatFormat.of(tiny_tokenizer()), models={"token_reward": reward})
    empty = replace(said(world.chat, "at"), response_ids=(), finished=False)
    long, short = said(world.chat, " ".join(WORDS[:14])), said(world.chat, "at nine")
    found = one_group(TokenRewardSpec())(world, [empty, long, short])
    assert [(each.reason, each.detail) for each in found] == [
        (Dropped.EMPTY, "no tokens"),
        (Dropped.TOO_LONG, "longer than the reward model's window of 12 tokens"),
        (None, ""),
    ]
    (head,) = reward.heads.values()
    with torch.no_grad():
        head.bias.fill_(float("nan"))  # type: ignore[union-attr]
    with pytest.raises(ModelError, match="not finite for sample 0 of prompt k"):
        one_group(TokenRewardSpec())(world, [short])


def test_a_folder_that_is_no_token_classifier(tmp_path: Path) -> None:
    saved(tiny_llama(), tmp_path / "policy")
    with pytest.raises(ModelError, match="weights are missing for score"):
        load_token_reward(tmp_path / "policy")
    with pytest.raises(ModelError, match="nowhere: no such folder"):
        load_token_reward(tmp_path / "nowhere")
