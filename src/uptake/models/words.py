"""A tokenizer of whole words, for models that are made from scratch."""

from collections.abc import Sequence

from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast


def word_tokenizer(
    words: Sequence[str], special: Sequence[str], *, end: str, chat_template: str
) -> PreTrainedTokenizerFast:
    """One token per lower-case word or punctuation mark; `end` is the end-of-turn token among the special ones."""
    vocabulary = {token: index for index, token in enumerate(("<pad>", "<unk>", *special, *words))}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    # Not WordPiece's own clean-up, which also turns "do not" into "don't".
    joined = [decoders.WordPiece(prefix="##", cleanup=False), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*joined, *(decoders.Replace(f" {mark}", mark) for mark in ".,!?")])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token=end,
        additional_special_tokens=[token for token in special if token != end],
        chat_template=chat_template,
    )
