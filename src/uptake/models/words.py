"""Models made from scratch: a tokenizer of whole words and a tiny Llama that speaks them."""

from collections.abc import Sequence

import torch
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from uptake.models.language_model import LanguageModel
from uptake.models.load import prepare


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


def tiny_llama(
    tokenizer: PreTrainedTokenizerFast,
    *,
    seed: int = 0,
    width: int = 128,
    layers: int = 3,
    heads: int = 4,
    window: int = 256,
) -> LanguageModel:
    """A Llama with random weights for a tokenizer of its own: half a million parameters by default."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=window,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return prepare(LlamaForCausalLM(config), tokenizer, "random weights")
