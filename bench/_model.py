"""Random models and texts of a stated size, for benchmarks: what they compute does not depend on what they know."""

import random
from functools import cache
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from uptake.models.words import word_tokenizer

VOCABULARY = 32_000
WORDS = VOCABULARY - 5
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """One token a word: 1 and 2, w0, w1, ...; a chat is the texts of its turns, one after another."""
    words = ["1", "2", *(f"w{index}" for index in range(WORDS))]
    return word_tokenizer(words, ("<end>",), end="<end>", chat_template=TEMPLATE)


def llama(width: int, inner: int, layers: int, heads: int, *, seed: int = 0, **more: Any) -> LlamaForCausalLM:
    """A Llama with random weights, in evaluation mode; its vocabulary is the tokenizer's."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        **{"max_position_embeddings": 1024, "tie_word_embeddings": True, "bos_token_id": None, **more},
    )
    model = LlamaForCausalLM(config)
    model.eval()
    return model


def text(rng: random.Random, words: int) -> str:
    """Random words."""
    return " ".join(f"w{rng.randrange(WORDS)}" for _ in range(words))
