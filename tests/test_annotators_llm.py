"""The judge in process: against plain rows of Transformers, what order must not change, all kinds of tokenizers."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import WORDS, saved, sentence, tiny_llama, tiny_tokenizer, tiny_world
from tiny_models import twin
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from uptake.annotators.llm import LLMJudge, LLMJudgeSpec
from uptake.annotators.question import Instructions
from uptake.errors import InputError, ModelError
from uptake.models import LanguageModel, prepare
from uptake.rewards.base import Resources
from uptake.support.keys import prompt_key
from uptake.types import Dropped, Prompt, Turn, Verdict

BRIEF = Instructions("when {prompt} 1 {first} 2 {second}", "bread =")
EVEN = Verdict(0.5, (0.5, 0.5))
Duel = tuple[Prompt, tuple[str, str]]


def speaker(seed: int = 0, dtype: torch.dtype = torch.float64, **changes: Any) -> LanguageModel:
    """A tiny model that knows 1 and 2; `changes` are the tokenizer's."""
    return tiny_llama(seed, dtype, tiny_tokenizer((*WORDS, "1", "2", "="), **changes), max_position_embeddings=256)


def asked(text: str) -> Prompt:
    turns = (Turn("user", text),)
    return Prompt(turns, prompt_key(turns))


def duels(count: int, seed: int = 0) -> list[Duel]:
    rng = random.Random(seed)
    return [(asked(sentence(rng, 12)), (sentence(rng, 20), sentence(rng, 20))) for _ in range(count)]


def verdicts(judge: LLMJudge, given: list[Duel]) -> list[Verdict]:
    return list(judge.compare([prompt for prompt, _ in given], [pair for _, pair in given]))


def next_logps(lm: LanguageModel, text: str) -> Tensor:
    """Log-probabilities of the next token, from one plain row through Transformers' own attention."""
    with torch.no_grad():
        ids = lm.tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        logps: Tensor = twin(lm.base, "sdpa")(ids).logits[0, -1].log_softmax(-1)
    return logps


def by_hand(lm: LanguageModel, one: str, other: str, answers: tuple[str, str] = ("1", "2")) -> tuple[float, float]:
    """P(the first is better) in each order, from the two whole texts and the answers' tokens."""
    ids = lm.tokenizer.convert_tokens_to_ids(list(answers))
    odds = [(logps[ids[0]] - logps[ids[1]]).exp() for logps in (next_logps(lm, one), next_logps(lm, other))]
    return float(odds[0] / (1 + odds[0])), float(1 / (1 + odds[1]))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("attention", ["tree", "rows"])
def test_both_orders_are_those_of_plain_rows(dtype: torch.dtype, tolerance: float, attention: Any) -> None:
    lm = replace(speaker(dtype=dtype), attention=attention)
    judge = LLMJudge(lm, BRIEF, min_share=0)
    for (prompt, (a, b)), verdict in zip(duels(6), verdicts(judge, duels(6)), strict=True):
        (turn,) = prompt.turns
        texts = [f"<user> when {turn.content} 1 {x} 2 {y} <end> <assistant>bread =" for x, y in ((a, b), (b, a))]
        expected = by_hand(lm, texts[0], texts[1])
        assert verdict.by_order == pytest.approx(expected, abs=tolerance)
        assert verdict.p == pytest.approx(sum(expected) / 2, abs=tolerance)
        assert verdict.valid
        assert expected[0] != pytest.approx(expected[1], abs=1e-3)


def test_a_model_without_a_template_reads_one_text() -> None:
    lm = speaker(chat_template="")
    judge = LLMJudge(lm, BRIEF, min_share=0)
    assert judge.chat.plain
    (verdict,) = judge.compare([asked("the bakery ?")], [("at eight .", "it sell bread")])
    one = "when the bakery ? 1 at eight . 2 it sell bread\nbread ="
    other = "when the bakery ? 1 it sell bread 2 at eight .\nbread ="
    assert verdict.by_order == pytest.approx(by_hand(lm, one, other), abs=1e-12)


def test_the_stem_is_computed_once() -> None:
    judge = LLMJudge(speaker(), BRIEF, min_share=0)
    prompt, pair = asked("when " * 50), ("at eight .", "it sell bread")
    (verdict,) = judge.compare([prompt], [pair])
    once = 1 + 1 + 50 + 1  # the template's and the instructions' words up to the first response
    branch = 3 + 1 + 3 + 4 + 2  # two responses, words between and after them, both answers
    assert verdict.tokens == once + 2 * branch


@pytest.mark.parametrize("order_average", ["prob", "logit"])
def test_label_swap(order_average: Any) -> None:
    judge = LLMJudge(speaker(), BRIEF, order_average, 0)
    given = duels(8)
    swapped = [(prompt, (b, a)) for prompt, (a, b) in given]
    for one, other in zip(verdicts(judge, given), verdicts(judge, swapped), strict=True):
        assert other.p == pytest.approx(1 - one.p, abs=1e-12)
        assert other.by_order == pytest.approx((1 - one.by_order[1], 1 - one.by_order[0]), abs=1e-12)


def test_two_orders_cancel_a_bias_to_the_first_place() -> None:
    """A bias on the logit of "1" is gone from the mean of logits, and not from a single order."""
    plain, biased = speaker(), speaker()
    head: Any = biased.head
    biased.base.set_output_embeddings(nn.Linear(*head.weight.T.shape, dtype=torch.float64))
    with torch.no_grad():
        biased.head.weight.copy_(head.weight)
        biased.head.bias.zero_()[biased.tokenizer.convert_tokens_to_ids("1")] = 0.8
    biased = prepare(biased.base, biased.tokenizer, "biased")
    for average, tolerance in (("logit", 1e-12), ("prob", 0.1)):
        one, other = (verdicts(LLMJudge(lm, BRIEF, average, 0), duels(6)) for lm in (plain, biased))
        gaps = [abs(x.p - y.p) for x, y in zip(one, other, strict=True)]
        assert max(gaps) < tolerance
        assert (average == "logit") == (max(gaps) < 1e-6)
        assert all(y.by_order[0] > x.by_order[0] for x, y in zip(one, other, strict=True))


def test_verdicts_do_not_depend_on_company_or_order() -> None:
    judge = LLMJudge(speaker(), BRIEF, min_share=0)
    given = duels(9)
    whole = verdicts(judge, given)
    alone = [verdicts(judge, [duel])[0] for duel in given]
    turned = verdicts(judge, given[::-1])[::-1]
    assert [each.p for each in alone] == pytest.approx([each.p for each in whole], abs=1e-12)
    assert [each.p for each in turned] == pytest.approx([each.p for each in whole], abs=1e-12)


def test_equal_responses_cost_nothing() -> None:
    judge = LLMJudge(speaker(), BRIEF, min_share=0)
    ((other, (a, b)),) = duels(1)
    found = judge.compare(
        [asked("when ?"), other, asked("bread " * 300)], [("at eight .", "at eight ."), (a, b), ("it", "it")]
    )
    assert (found[0], found[2]) == (EVEN, EVEN)
    assert found[1] == verdicts(judge, [(other, (a, b))])[0]
    assert judge.compare([], []) == []


def test_responses_that_tokenize_alike_are_even() -> None:
    """Different texts, the same tokens: the two orders are one, and say the opposite of each other."""
    (verdict,) = LLMJudge(speaker(), BRIEF, min_share=0).compare([asked("when ?")], [("xylophone", "zither")])
    assert verdict.p == pytest.approx(0.5, abs=1e-12)
    assert verdict.tokens > 0


def test_the_longest_duel_that_fits() -> None:
    lm = speaker()
    judge = LLMJudge(lm, BRIEF, min_share=0)
    frame = 2 + 1 + 1 + 1 + 4  # around the prompt and two responses
    fits = 256 - frame - 1 - 3
    pairs = [("it " * fits, "at eight ."), ("it " * (fits + 1), "at eight ."), ("it", "at")]
    found = judge.compare([asked("?")] * 3, pairs)
    assert [each.valid for each in found] == [True, False, True]
    assert found[1] == Verdict(0.5, (0.5, 0.5), Dropped.TOO_LONG)


# --- which tokens the answers are -------------------------------------------------------------------------------------


def bpe(corpus: list[str], words: bool) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer trained on a corpus; `words` keeps digits and marks apart, with the blank before them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=words)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=290, special_tokens=["<s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(corpus * 5, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<s>", bos_token="<s>")


@pytest.mark.parametrize(
    ("words", "cue", "before", "answers"),
    [
        (True, "Better: ", "Better:", ("Ġ1", "Ġ2")),
        (True, "Better:", "Better:", ("1", "2")),
        (False, "Better=", "Better", ("=1", "=2")),
    ],
)
def test_blanks_and_marks_go_with_the_token_of_the_answer(
    words: bool, cue: str, before: str, answers: tuple[str, str]
) -> None:
    lm = tiny_llama(0, torch.float64, bpe(["a 1 2", "b 1 2", "=1", "=2"], words), max_position_embeddings=256)
    judge = LLMJudge(lm, Instructions("{prompt} {first} {second}", cue), min_share=0)
    (verdict,) = judge.compare([asked("ab")], [("a", "b")])
    one, other = f"ab a b\n{before}", f"ab b a\n{before}"
    assert verdict.by_order == pytest.approx(by_hand(lm, one, other, answers), abs=1e-12)


@pytest.mark.parametrize("spelled", [("<unk>", "<unk>"), ("at nine", "it eight")])
def test_answers_that_are_no_tokens_of_their_own(spelled: tuple[str, str]) -> None:
    """Unknown words, or more than one token each."""
    tokenizer = tiny_tokenizer()
    replaced = [normalizers.Replace(digit, text) for digit, text in zip("12", spelled, strict=True)]
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *replaced])
    lm = tiny_llama(tokenizer=tokenizer)
    message = f"tiny-0: after the cue 'bread =', 1 and 2 are not single tokens that differ.*{spelled[0].split()[-1]}"
    with pytest.raises(ModelError, match=message):
        LLMJudge(lm, BRIEF, min_share=0)


# --- making one -------------------------------------------------------------------------------------------------------


def test_from_a_folder_and_a_file(tmp_path: Path) -> None:
    lm = speaker(dtype=torch.float32)
    (tmp_path / "brief.txt").write_text(f"{BRIEF.text}\n{BRIEF.cue}\n")
    judge = LLMJudge.from_pretrained(
        saved(lm, tmp_path / "judge"), tmp_path / "brief.txt", min_share=0, device="cpu", dtype="float32"
    )
    given = duels(2)
    assert [each.p for each in verdicts(judge, given)] == pytest.approx(
        [each.p for each in verdicts(LLMJudge(lm, BRIEF, min_share=0), given)], abs=1e-6
    )


def test_fingerprints_differ_wherever_verdicts_may() -> None:
    lm = speaker()
    judges = [
        LLMJudge(lm, BRIEF),
        LLMJudge(lm, BRIEF, min_share=0),
        LLMJudge(lm, BRIEF, "logit"),
        LLMJudge(lm, Instructions(BRIEF.text, "=")),
        LLMJudge(speaker(1), BRIEF),
        LLMJudge(speaker(dtype=torch.float32), BRIEF),
        LLMJudge(speaker(chat_template=""), BRIEF),
    ]
    assert len({judge.fingerprint for judge in judges}) == len(judges)


@pytest.mark.unchecked
def test_unknown_average() -> None:
    with pytest.raises(InputError, match=r"field 'order_average': 'mean' \(allowed: prob, logit\)"):
        LLMJudge(speaker(), BRIEF, "mean")  # type: ignore[arg-type]


def test_not_a_number_is_an_error() -> None:
    lm = speaker()
    judge = LLMJudge(lm, BRIEF, min_share=0)
    head: Any = lm.head
    with torch.no_grad():
        head.weight.fill_(torch.nan)
    with pytest.raises(ModelError, match="not-a-number"):
        verdicts(judge, duels(1))


def test_as_a_part_of_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "brief.txt").write_text(f"{BRIEF.text}\n{BRIEF.cue}\n")
    lm = speaker()
    world = tiny_world(tmp_path, [], models={"judge": lm})
    annotator = LLMJudgeSpec(min_share=0, instructions=str(tmp_path / "brief.txt")).build(Resources.of(world))
    ((prompt, pair),) = duels(1)
    assert list(annotator.compare([prompt], [pair])) == verdicts(LLMJudge(lm, BRIEF, min_share=0), [(prompt, pair)])


def test_a_model_about_to_say_something_else_gives_no_verdict() -> None:
    """The share that both answers hold, from plain rows, decides at its very value."""
    lm = speaker()
    (duel,) = duels(1)
    tree = LLMJudge(lm, BRIEF, min_share=0)._tree(duel[0], *duel[1])
    stem, one, first, second, other, *_ = (node.ids for node in tree.nodes)
    with torch.no_grad():
        rows = [lm.model(torch.tensor([stem + order])).logits[0, -1].softmax(-1) for order in (one, other)]
    row = min(rows, key=lambda row: float(row[[*first, *second]].sum()))
    share = float(row[[*first, *second]].sum())
    (kept,) = verdicts(LLMJudge(lm, BRIEF, min_share=share - 1e-9), [duel])
    assert kept.valid
    (dropped,) = verdicts(LLMJudge(lm, BRIEF, min_share=share + 1e-9), [duel])
    assert not dropped.valid
    row[[*first, *second]] = 0
    word = lm.tokenizer.decode([int(row.argmax())])
    assert dropped.detail == f"about to say {word!r}, neither 1 nor 2"
    with pytest.raises(InputError, match=r"field 'min_share'.*0 to 1"):
        LLMJudge(lm, BRIEF, min_share=2.0)
