"""Spans of responses and follow-ups under every common chat template and tokenizer family."""

from pathlib import Path

import pytest
from tiny_tokenizers import (
    CHAT,
    CORPUS,
    END_OF_TURN,
    FAMILIES,
    FOLLOW_UPS,
    SPECIAL,
    TEMPLATES,
    byte_level,
    tokenizer_of,
)
from tokenizers import Tokenizer, models, processors, trainers
from transformers import PreTrainedTokenizerFast

from uptake.data.chat import ChatFormat, FollowUpIds
from uptake.data.template import PLAIN_TEMPLATE
from uptake.errors import InputError, ModelError
from uptake.support.notes import clear_notes, notes
from uptake.types import Dialogue, Turn, Where


def chat_format(family: str, template: str) -> ChatFormat:
    return ChatFormat.of(tokenizer_of(family), TEMPLATES[template])


def ids_of(form: ChatFormat, text: str) -> tuple[int, ...]:
    return tuple(form.tokenizer(text, add_special_tokens=False)["input_ids"])


def squeeze(text: str) -> str:
    """Text without blanks: what a word-level vocabulary keeps of it."""
    return "".join(text.split())


def every(*, slow: bool = True) -> pytest.MarkDecorator:
    families = [*FAMILIES, "characters"] if slow else [*FAMILIES]
    pairs = [(family, template) for family in families for template in TEMPLATES]
    return pytest.mark.parametrize(("family", "template"), pairs)


@every()
def test_branch_decodes_to_the_follow_up_and_extends_the_stem(family: str, template: str) -> None:
    form = chat_format(family, template)
    for text in FOLLOW_UPS:
        parts = form.follow_up(CHAT, f"  {text}\n")
        decoded = str(form.tokenizer.decode(list(parts.branch)))
        if family == "word_level":
            assert squeeze(decoded) == squeeze(text)
        else:
            assert decoded.lstrip(" ") == text
        whole = form.render((*CHAT, Turn("user", text)))
        ids = ids_of(form, whole)
        assert (*parts.stem, *parts.branch) == ids_of(form, whole[: whole.rindex(text) + len(text)])
        if (family, template) != ("byte_level", "plain"):  # there one token joins the last full stop and the newline
            assert (*parts.stem, *parts.branch) == ids[: len(parts.stem) + len(parts.branch)]
        assert ids.count(form.tokenizer.bos_token_id or 0) == whole.count("<s>") <= 1


@every()
def test_all_follow_ups_at_once_equal_one_by_one(family: str, template: str) -> None:
    form = chat_format(family, template)
    stem, branches = form.follow_ups(CHAT, FOLLOW_UPS)
    for text, branch in zip(FOLLOW_UPS, branches, strict=True):
        alone = form.follow_up(CHAT, text)
        assert (alone.stem, alone.branch) == (stem, branch)


@every()
def test_response_ends_with_the_end_of_turn_token_and_nothing_after_it(family: str, template: str) -> None:
    form = chat_format(family, template)
    prompt, response = form.response_ids(CHAT[:3], CHAT[3].content)
    end = form.tokenizer.convert_tokens_to_ids(END_OF_TURN[template])
    assert prompt == form.prompt_ids(CHAT[:3])
    assert response[-1] == end
    assert end not in response[:-1]
    assert form.end_ids == {end, form.tokenizer.eos_token_id}
    assert squeeze(str(form.tokenizer.decode(list(response[:-1])))) == squeeze(CHAT[3].content)


def test_each_row_checks_a_follow_up_and_falls_back_to_the_whole_chat() -> None:
    form = chat_format("byte_level", "chatml")
    expected = form.follow_ups(CHAT, FOLLOW_UPS)
    for text in FOLLOW_UPS:
        form._probed["user", text] = FollowUpIds((), (0,))
    assert form.follow_ups(CHAT, FOLLOW_UPS) == expected


def test_different_rows_check_different_follow_ups() -> None:
    form = chat_format("byte_level", "chatml")
    form.follow_ups(CHAT, FOLLOW_UPS)
    stem = form._probed["user", FOLLOW_UPS[0]].stem
    form._probed["user", FOLLOW_UPS[0]] = FollowUpIds(stem, (0,))
    rows = [(*CHAT[:3], Turn("assistant", f"At {hour}.")) for hour in range(40)]
    unmasked = [form.follow_ups(row, FOLLOW_UPS)[1][0] != (0,) for row in rows]
    assert any(unmasked)
    assert not all(unmasked)


def test_a_follow_up_whose_first_letter_is_unknown_shares_the_stem_of_the_others() -> None:
    for family in ("unigram", "sentencepiece_bpe", "characters", "byte_level"):
        form = chat_format(family, "mistral")
        stem, (plain, strange) = form.follow_ups(CHAT, ["That", "Ωmega"])
        assert stem == form.follow_up(CHAT, "Ωmega").stem
        assert plain != strange


def test_the_plain_template_is_spelled_out_and_says_so() -> None:
    form = chat_format("byte_level", "plain")
    assert form.plain
    assert form.template == PLAIN_TEMPLATE
    assert form.render(CHAT[:2]) == "User: When does the bakery open?\nAssistant: It sells bread.</s>\n"
    assert form.render(CHAT[:1], generation=True) == "User: When does the bakery open?\nAssistant:"
    assert not chat_format("byte_level", "chatml").plain


def test_the_plain_template_begins_as_the_tokenizer_begins_every_text() -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_level(), bos_token="<s>", eos_token="</s>")
    begin = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.backend_tokenizer.post_processor = begin
    ids = ChatFormat.of(tokenizer).prompt_ids(CHAT[:1])
    assert ids[0] == tokenizer.bos_token_id
    assert ids.count(tokenizer.bos_token_id) == 1


def test_a_tokenizer_without_an_end_can_score_but_not_train() -> None:
    form = ChatFormat.of(PreTrainedTokenizerFast(tokenizer_object=byte_level(), unk_token="<unk>"))
    assert form.end_ids == frozenset()
    assert form.follow_up(CHAT, "why?").branch
    with pytest.raises(ModelError, match="special token"):
        form.response_ids(CHAT[:1], "At eight.")


def test_the_tokenizers_own_template_is_the_default() -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_level(), chat_template=TEMPLATES["chatml"])
    form = ChatFormat.of(tokenizer)
    assert not form.plain
    assert form.render(CHAT[:1]).startswith("<|im_start|>user\n")


CHATML = str(TEMPLATES["chatml"])
HOSTILE = {
    "lower-cases": CHATML.replace("m['content']", "m['content'] | lower"),
    "shortens earlier turns": CHATML.replace("m['content']", "(m['content'] if loop.last else m['content'][:9])"),
    "strips earlier answers": CHATML.replace(
        "m['content']", "(m['content'] if loop.last or m['role'] == 'user' else m['content'].split('. ')[-1])"
    ),
    "edits the last turn": CHATML.replace(
        "m['content']", "(m['content'] | replace('ue', 'u') if loop.last else m['content'])"
    ),
}


@pytest.mark.parametrize("template", HOSTILE.values(), ids=HOSTILE)
def test_a_template_that_changes_content_is_refused_for_follow_ups(template: str) -> None:
    row = Where(Path("chats.jsonl"), 17)
    with pytest.raises(InputError, match="template changes"):
        ChatFormat.of(tokenizer_of("byte_level"), template).follow_ups(CHAT, FOLLOW_UPS, where=row)


def test_a_template_that_changes_the_response_is_refused_with_row_and_both_texts() -> None:
    form = ChatFormat.of(tokenizer_of("byte_level"), HOSTILE["edits the last turn"])
    with pytest.raises(InputError, match=r"chats.jsonl:17: .*True.*Tru"):
        form.response_ids(CHAT[:1], "True.", where=Where(Path("chats.jsonl"), 17))


def test_a_template_that_rewrites_the_prompt_once_answered_is_refused() -> None:
    template = CHATML.replace("m['content']", "(m['content'] if loop.last else m['content'][:9])")
    form = ChatFormat.of(tokenizer_of("byte_level"), template)
    with pytest.raises(InputError, match=r"differently once it is answered.*bakery open"):
        form.response_ids(CHAT[:1], "At eight.")


@pytest.mark.parametrize("family", ["joined", "joined without offsets"])
def test_a_token_across_header_and_follow_up_is_refused(family: str) -> None:
    """A vocabulary with the token `>why`, and a header that ends in `>`."""
    tokenizer = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIAL[:5], show_progress=False)
    tokenizer.train_from_iterator(["user>why"] * 50 + CORPUS, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>")
    if family == "joined without offsets":
        fast = type("NoOffsets", (PreTrainedTokenizerFast,), {"is_fast": False})(
            tokenizer_object=tokenizer, eos_token="</s>"
        )
    form = ChatFormat.of(fast, "{% for m in messages %}{{ m['role'] + '>' + m['content'] + '</s>' }}{% endfor %}")
    assert form.follow_up(CHAT, "No").branch
    with pytest.raises(InputError, match="joins the header and the follow-up"):
        form.follow_up(CHAT, "why")
    with pytest.raises(InputError, match="joins the header and the follow-up"):
        form.follow_ups(CHAT, ["No", "why"])


def test_follow_ups_whose_first_letters_split_the_header_differently_are_refused() -> None:
    """A vocabulary that joins the header's last blank with "x", and else with the mark before it."""
    pieces = [*SPECIAL[:3], *sorted({c for text in CORPUS for c in text} | {">", "x"}), " x", "> "]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [(" ", "x"), (">", " ")], unk_token="<unk>"))
    template = "{% for m in messages %}{{ m['role'] + '> ' + m['content'] + '</s>' }}{% endfor %}"
    form = ChatFormat.of(PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>"), template)
    assert form.follow_ups(CHAT, ["who", "why"])
    for texts in (["x", "why"], ["why", "x"]):
        with pytest.raises(InputError, match=r"change with the follow-up: .*'>"):
            form.follow_ups(CHAT, texts)


def test_a_prompt_whose_last_token_changes_with_the_answer_keeps_it() -> None:
    """The pattern of GPT-2 joins two newlines at the end of the prompt and separates them before an answer."""
    clear_notes()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_level(gpt2=True), bos_token="<s>", eos_token="</s>")
    form = ChatFormat.of(tokenizer, TEMPLATES["llama3"])
    prompt, response = form.response_ids(CHAT[:1], "At eight.")
    assert prompt == form.prompt_ids(CHAT[:1])
    assert tokenizer.convert_ids_to_tokens(prompt[-1]) == "ĊĊ"
    assert tokenizer.decode(response) == "At eight.<|eot_id|>"
    assert notes() == ["1 responses begin with what a token would join to the prompt, and are read on their own"]
    assert ChatFormat.of(tokenizer, TEMPLATES["chatml"]).response_ids(CHAT[:1], "At eight.")


def test_a_refusal_of_the_template_names_the_roles() -> None:
    form = chat_format("byte_level", "mistral")
    with pytest.raises(InputError, match=r"system, user: Roles must alternate"):
        form.prompt_ids((Turn("system", "Be brief."), *CHAT[:1]))


def test_blank_follow_ups_and_chats_without_a_response_are_refused() -> None:
    form = chat_format("byte_level", "chatml")
    with pytest.raises(InputError, match="blank"):
        form.follow_up(CHAT, "  ")
    with pytest.raises(InputError, match="ends with a user turn"):
        form.follow_up(CHAT[:1], "why?")
    with pytest.raises(InputError, match="no follow-ups"):
        form.follow_ups(CHAT, [])


def tokens(form: ChatFormat, turns: Dialogue) -> int:
    text = form.render(turns, generation=turns[-1].role == "user")
    return len(ids_of(form, text))


@pytest.mark.parametrize("system", [(), (Turn("system", "Hello."),)])
def test_fit_drops_the_oldest_turns_and_keeps_system_turn_and_response(system: Dialogue) -> None:
    form = chat_format("byte_level", "chatml")
    chat = (*system, *CHAT)
    whole, shorter = tokens(form, chat), tokens(form, (*system, *CHAT[2:]))
    assert form.fit(chat, whole) == (chat, 0)
    assert form.fit(chat, whole + 5, 5) == (chat, 0)
    assert form.fit(chat, whole + 4, 5) == ((*system, *CHAT[2:]), 2)
    assert form.fit(chat, whole - 1) == ((*system, *CHAT[2:]), 2)
    assert form.fit(chat, shorter + 5, 5) == ((*system, *CHAT[2:]), 2)
    with pytest.raises(InputError, match=rf"chats.jsonl:3: .*{shorter} tokens.*window of {shorter - 1}"):
        form.fit(chat, shorter - 1, where=Where(Path("chats.jsonl"), 3))


def test_fit_of_a_prompt_counts_the_generation_prompt() -> None:
    form = chat_format("byte_level", "chatml")
    size = tokens(form, CHAT[:3])
    assert size == len(form.prompt_ids(CHAT[:3]))
    assert form.fit(CHAT[:3], size) == (CHAT[:3], 0)
    assert form.fit(CHAT[:3], size - 1) == (CHAT[2:3], 2)
