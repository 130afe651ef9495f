"""Models of few habits: the next token depends on the last one alone, so that every share is known beforehand."""

from collections.abc import Mapping
from math import log
from typing import Any

import torch
from tiny import tiny_llama
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from uptake.models import LanguageModel, prepare

# The likeliest next tokens after a token, with their probabilities; what is left goes to all others alike.
Habits = Mapping[str, Mapping[str, float]]

# Those of a judge that answers.
SURE = {"1": 0.6, "2": 0.3}


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
    shape = {"hidden_size": 4 * size, "head_dim": 8, "num_hidden_layers": 1, "tie_word_embeddings": False}
    options = {**shape, "initializer_range": 0.02, "max_position_embeddings": 1024, **changes}
    model: Any = tiny_llama(0, torch.float64, tokenizer, **options).base
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
