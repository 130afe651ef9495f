"""Chat templates and tokenizers of every common kind, trained on the spot."""

from collections.abc import Callable, Iterator
from functools import cache

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from uptake.types import Turn

TEMPLATES = {
    "chatml": (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    ),
    "llama3": (
        "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' "
        "+ m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
    ),
    "mistral": (
        "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Roles must alternate user/assistant') }}{% endif %}"
        "{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
        "{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
    ),
    "gemma": (
        "{{ bos_token }}{% for m in messages %}{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
        "{{ '<start_of_turn>' + role + '\\n' + m['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
    ),
    "zephyr": (
        "{% for m in messages %}{{ '<|' + m['role'] + '|>\\n' + m['content'] + eos_token + '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    ),
    "plain": None,
}
END_OF_TURN = {
    "chatml": "<|im_end|>",
    "llama3": "<|eot_id|>",
    "mistral": "</s>",
    "gemma": "<end_of_turn>",
    "zephyr": "</s>",
    "plain": "</s>",
}
SPECIAL = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>"]
SPECIAL += ["<|eot_id|>", "[INST]", "[/INST]", "<start_of_turn>", "<end_of_turn>", "<|user|>", "<|assistant|>"]
FOLLOW_UPS = [
    "That answers my question.",
    "You misunderstood me!",
    "No, I asked when it opens.",
    "why?",
    "It's 8 o'clock",
]
CHAT = (
    Turn("user", "When does the bakery open?"),
    Turn("assistant", "It sells bread."),
    Turn("user", "No, I asked when it opens. user"),
    Turn("assistant", "At eight o'clock. That answers my question."),
)
LLAMA3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CORPUS = [*(turn.content for turn in CHAT), *FOLLOW_UPS, "user assistant model system User: Assistant: Hello.\n\n"] * 5


def byte_level(gpt2: bool = False) -> Tokenizer:
    """As Llama 3 and Qwen have it, or as GPT-2, whose pattern leaves the last newline before a word alone."""
    tokenizer = Tokenizer(models.BPE())
    words = pre_tokenizers.Split(Regex(LLAMA3_WORDS), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [*([] if gpt2 else [words]), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=gpt2)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def sentencepiece_bpe() -> Tokenizer:
    """As Llama 2 has it: blanks become a mark in the normalizer, and merges run over the whole text."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    words = [word for text in CORPUS for word in text.split()]
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=[*SPECIAL, "\n"], show_progress=False)
    tokenizer.train_from_iterator([*words, *CORPUS[-1:]], trainer)
    return tokenizer


def word_level() -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(CORPUS, trainers.WordLevelTrainer(special_tokens=SPECIAL, show_progress=False))
    return tokenizer


class Characters(PreTrainedTokenizer):
    """A tokenizer in Python, without offsets: one token per character, blanks joined with some of the letters."""

    def __init__(self, **kwargs: object) -> None:
        pieces = [*SPECIAL, *sorted({c for text in CORPUS for c in text}), *map("▁{}".format, "AINmwo")]
        self.pieces = {piece: i for i, piece in enumerate(dict.fromkeys([*pieces, "▁"]))}
        special = [piece for piece in SPECIAL if piece not in ("<unk>", "<s>", "</s>")]
        super().__init__(
            unk_token="<unk>", bos_token="<s>", eos_token="</s>", additional_special_tokens=special, **kwargs
        )

    @property
    def vocab_size(self) -> int:
        return len(self.pieces)

    def get_vocab(self) -> dict[str, int]:
        return dict(self.pieces)

    def _tokenize(self, text: str, **kwargs: object) -> Iterator[str]:
        marked = text.replace(" ", "▁")
        while marked:
            size = 2 if marked[:2] in self.pieces else 1
            yield marked[:size]
            marked = marked[size:]

    def _convert_token_to_id(self, token: str) -> int:
        return self.pieces.get(token, 0)

    def _convert_id_to_token(self, index: int) -> str:
        return list(self.pieces)[index]

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        return "".join(tokens).replace("▁", " ")


FAMILIES: dict[str, Callable[[], Tokenizer]] = {
    "byte_level": byte_level,
    "unigram": unigram,
    "sentencepiece_bpe": sentencepiece_bpe,
    "word_level": word_level,
}


@cache
def tokenizer_of(family: str) -> PreTrainedTokenizerBase:
    if family == "characters":
        return Characters()
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "additional_special_tokens": SPECIAL[3:]}
    return PreTrainedTokenizerFast(tokenizer_object=FAMILIES[family](), clean_up_tokenization_spaces=False, **special)
