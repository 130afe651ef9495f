"""The form of a cue: models whose next token depends on the last one alone, so that every share is known beforehand."""

from collections.abc import Mapping
from dataclasses import replace
from math import log
from typing import Any

import pytest
import torch
from tiny import tiny_llama
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from uptake.annotators.cue import AS_IT_STANDS, FORMS, CueForm
from uptake.annotators.llm import LLMJudge
from uptake.annotators.question import Instructions
from uptake.data import ChatFormat
from uptake.errors import ModelError
from uptake.models import LanguageModel, prepare
from uptake.types import Dropped, Prompt, Turn

BRIEF = Instructions("{prompt} A {first} B {second} Say one.", "Better=")
TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}>{% endif %}"
PROMPT = Prompt((Turn("user", "How?"),), key="how")
PAIR = ("so", "thus")

# The likeliest next tokens after a token, with their probabilities; what is left goes to all others alike.
Habits = Mapping[str, Mapping[str, float]]


def digit_tokenizer(template: str = "") -> PreTrainedTokenizerFast:
    """Bytes, but digits are cut from what is before them, the blank too: as of SmolLM2."""
    tokenizer = Tokenizer(models.BPE())
    parts = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=257, special_tokens=["<s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<s>")
    fast.chat_template = template or None
    return fast


def creature(habits: Habits, template: str = "", **changes: Any) -> LanguageModel:
    """A model of these habits: nothing but the last token reaches the head."""
    tokenizer = digit_tokenizer(template)
    size = len(tokenizer)
    shape = {"hidden_size": 4 * size, "num_hidden_layers": 1, "tie_word_embeddings": False, "initializer_range": 0.02}
    model: Any = tiny_llama(0, torch.float64, tokenizer, **{**shape, "max_position_embeddings": 1024, **changes}).base
    with torch.no_grad():
        model.model.layers[0].self_attn.o_proj.weight.zero_()
        model.model.layers[0].mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.copy_(100 * torch.eye(size, 4 * size))  # the norm's epsilon does not matter
        model.lm_head.weight.zero_()
        for last, nexts in habits.items():
            rest = (1 - sum(nexts.values())) / (size - len(nexts))
            for token, p in nexts.items():
                place = (tokenizer.convert_tokens_to_ids(each) for each in (token, last))
                model.lm_head.weight[*place] = log(p / rest) / (4 * size) ** 0.5  # what the norm makes of a one
    return prepare(model, tokenizer, "creature")


def judged(lm: LanguageModel, brief: Instructions = BRIEF, **settings: Any) -> Any:
    """The judge's cue and its verdict on one pair."""
    judge = LLMJudge(lm, brief, **settings)
    (verdict,) = judge.compare([PROMPT], [PAIR])
    return judge.cue, verdict


SURE = {"1": 0.6, "2": 0.3}


@pytest.mark.parametrize(
    ("habits", "form"),
    [
        ({"=": {"Ġ": 0.9}, "Ġ": SURE}, CueForm(" ")),
        ({"=": {"Ċ": 0.9}, "Ċ": SURE}, CueForm("\n")),
        ({"=": {"Ġ": 0.5}, ">": SURE}, CueForm("", in_user_turn=True)),
        ({"=": {"Ġ": 0.9}, ">": {"Ġ": 0.9}, "Ġ": SURE}, CueForm(" ")),
    ],
)
def test_the_form_in_which_the_answers_hold_most(
    habits: Habits, form: CueForm, caplog: pytest.LogCaptureFixture
) -> None:
    cue, verdict = judged(creature(habits, TEMPLATE))
    assert cue.form == form
    assert cue.mass == pytest.approx(0.9)
    assert verdict.valid
    assert verdict.by_order == pytest.approx((2 / 3, 1 / 3))
    assert f"creature: after the cue 'Better=' 1 and 2 hold 0% as it stands, 90% {form}, which is taken" in caplog.text


def test_a_model_without_a_template_has_no_turns() -> None:
    cue, verdict = judged(creature({"=": {"Ġ": 0.9}, ">": SURE, "Ġ": {"1": 0.3, "2": 0.3}}))
    assert (cue.form, cue.mass, verdict.valid) == (CueForm(" "), pytest.approx(0.6), True)


def test_a_cue_that_works_stands(caplog: pytest.LogCaptureFixture) -> None:
    """Even where another form would hold more."""
    cue, verdict = judged(creature({"=": {"1": 0.4, "2": 0.2}, "Ġ": SURE}, TEMPLATE))
    assert (cue.form, cue.mass) == (AS_IT_STANDS, pytest.approx(0.6))
    assert verdict.by_order == pytest.approx((2 / 3, 1 / 3))
    assert caplog.text == ""
    assert judged(creature({"Ġ": SURE}, TEMPLATE), min_share=0)[0].form == AS_IT_STANDS


def test_what_stands_before_an_answer() -> None:
    chat = ChatFormat.of(digit_tokenizer(TEMPLATE))
    texts = {form: form.text(chat, "Which?", "Better= ") for form in (AS_IT_STANDS, *FORMS)}
    assert list(texts.values()) == [
        *("<user>Which?>Better= ", "<user>Which?>Better=", "<user>Which?>Better= ", "<user>Which?>Better=\n"),
        *("<user>Which?\nBetter=>", "<user>Which?\nBetter=> ", "<user>Which?\nBetter=>\n"),
    ]
    assert CueForm(" ").text(ChatFormat.of(digit_tokenizer()), "Which?", "Better=") == "Which?\nBetter= "


def test_a_cue_of_one_s_own_that_ends_with_a_blank() -> None:
    brief = replace(BRIEF, cue="Better= ")
    assert judged(creature({"Ġ": SURE}), brief)[0].form == AS_IT_STANDS
    assert judged(creature({"=": SURE}), brief)[0].form == CueForm("")
    assert judged(creature({"Ċ": SURE}), brief)[0].form == CueForm("\n")


def test_a_model_that_takes_no_form_says_what_it_would_rather_say(caplog: pytest.LogCaptureFixture) -> None:
    habits = {"=": {"Ġ": 0.9}, "Ġ": {"R": 0.5, "1": 0.2, "2": 0.1}, "Ċ": {"1": 0.1}}
    cue, verdict = judged(creature(habits, TEMPLATE))
    assert (cue.form, cue.mass) == (CueForm(" "), pytest.approx(0.3))
    assert "1 and 2 hold 30% of the probability at most, with a blank; it would rather say 'R' (50%), " in caplog.text
    assert (verdict.reason, verdict.detail) == (Dropped.NO_CHOICE, "about to say 'R', neither 1 nor 2")


def test_an_answer_is_nothing_that_a_model_would_rather_say(caplog: pytest.LogCaptureFixture) -> None:
    """Not even where it is the likeliest token, as the other one is not likely enough."""
    _, verdict = judged(creature({"=": {"1": 0.4, "R": 0.3, "2": 0.05}}))
    assert verdict.detail == "about to say 'R', neither 1 nor 2"
    assert "rather say 'R' (30%), " in caplog.text


def test_one_fit_serves_every_judge_of_a_model(caplog: pytest.LogCaptureFixture) -> None:
    lm = creature({"=": {"Ġ": 0.9}, "Ġ": SURE})
    judges = [LLMJudge(lm, BRIEF) for _ in range(3)]
    assert caplog.text.count("which is taken") == 1
    assert judges[0].cue is judges[2].cue
    assert LLMJudge(lm, BRIEF, min_share=0).cue.form == AS_IT_STANDS


def test_no_question_fits_the_window() -> None:
    cue = LLMJudge(creature({"Ġ": SURE}, max_position_embeddings=32), BRIEF).cue
    assert (cue.form, cue.mass) == (AS_IT_STANDS, None)


def test_other_forms_are_other_fingerprints() -> None:
    """The same model and settings cannot have two forms; a form that is not the cue's own is told all the same."""
    plain = creature({"=": SURE})
    one, other = LLMJudge(plain, BRIEF), LLMJudge(plain, BRIEF)
    other.__dict__["cue"] = replace(one.cue, form=CueForm(" "))
    assert one.fingerprint != other.fingerprint


def test_not_a_number_is_an_error_when_the_judge_is_made() -> None:
    lm = creature({"=": SURE})
    head: Any = lm.head
    with torch.no_grad():
        head.weight.fill_(torch.nan)
    with pytest.raises(ModelError, match="creature gives not-a-number"):
        LLMJudge(lm, BRIEF)
