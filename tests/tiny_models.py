"""Tiny random models and the plain road to their log-probabilities, which the tests of `uptake.models` share."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from uptake.models import LanguageModel, Node, TokenTree, prepare
from uptake.models.words import word_tokenizer

VOCABULARY = 97
TOKENS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
    **TOKENS,
}
GROUPED = {**SMALL, "num_key_value_heads": 2}
HEADS = {**GROUPED, "head_dim": 8}
LOCAL = {"sliding_window": 6}
EXPERTS = {"num_local_experts": 2, "num_experts_per_tok": 1}
MAMBA = {"vocab_size": VOCABULARY, "hidden_size": 32, "state_size": 4, "num_hidden_layers": 2, **TOKENS}
JAMBA = {
    **GROUPED,
    "num_hidden_layers": 4,
    "attn_layer_period": 2,
    "attn_layer_offset": 1,
    "expert_layer_period": 2,
    "expert_layer_offset": 1,
    "num_experts": 2,
    "num_experts_per_tok": 1,
    "mamba_d_state": 4,
    "use_mamba_kernels": False,
}
GPT2 = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 256, **TOKENS}
SHARP = {"initializer_range": 0.3}
GEMMA2 = {**HEADS, **LOCAL, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0}
GEMMA3 = {**HEADS, **LOCAL, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}

FAMILIES: dict[str, dict[str, Any]] = {
    "Llama": GROUPED,
    "Qwen2": GROUPED,
    "Qwen3": HEADS,
    "Mistral": {**GROUPED, **LOCAL},
    "Gemma2": GEMMA2,
    "Gemma3Text": GEMMA3,
    "GPT2": {**GPT2, **SHARP},
    "GPTNeoX": SMALL,
    "Phi3": {**GROUPED, **LOCAL},
    "Olmo2": GROUPED,
    "Cohere": {**GROUPED, "logit_scale": 0.3},
    "Granite": {**GROUPED, "logits_scaling": 3.0, "attention_multiplier": 0.2},
    "HyperCLOVAX": {**GROUPED, "logits_scaling": 3.0},
    "Mamba": {**MAMBA, **SHARP},
    "Jamba": JAMBA,
    "Bloom": {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 4, **SHARP, **TOKENS},
    "GptOss": {**HEADS, **LOCAL, **EXPERTS},
    "Phimoe": {**GROUPED, **EXPERTS, "sliding_window": 50},
}


# Models that were made, by what they were made of, with the state of the generator after that.
_made: dict[str, tuple[PreTrainedModel, Tensor]] = {}


def tiny(family: str, seed: int = 0, dtype: torch.dtype = torch.float32, **changes: object) -> PreTrainedModel:
    """A model with random weights, the same for the same seed; every call gives one of its own."""
    name = f"{family} {seed} {dtype} {sorted(changes.items())}"
    if name not in _made:
        config = getattr(transformers, f"{family}Config")(**{**FAMILIES[family], **copy.deepcopy(changes)})
        torch.manual_seed(seed)
        _made[name] = AutoModelForCausalLM.from_config(config, dtype=dtype).eval(), torch.get_rng_state()
    model, state = _made[name]
    torch.set_rng_state(state)
    return copy.deepcopy(model)


def tokenizer() -> PreTrainedTokenizerFast:
    words = [f"w{number}" for number in range(VOCABULARY - 3)]
    return word_tokenizer(words, ["<end>"], end="<end>", chat_template="{{ messages[0]['content'] }}")


def ready(model: PreTrainedModel, name: str = "tiny") -> LanguageModel:
    return prepare(model, tokenizer(), name)


def twin(model: PreTrainedModel, attention: str | None = None) -> PreTrainedModel:
    """A second model with the same weights and attention of Transformers' own."""
    config = copy.deepcopy(model.config)
    options = {} if attention is None else {"attn_implementation": attention}
    other: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=model.dtype, **options).eval()
    other.load_state_dict(model.state_dict())
    return other


def path_ids(tree: TokenTree, node: int) -> list[int]:
    """All tokens from the root to the end of a node."""
    before = path_ids(tree, tree.nodes[node].parent) if node else []
    return [*before, *tree.nodes[node].ids]


def plain_logps(model: PreTrainedModel, trees: Sequence[TokenTree], temperature: float = 1.0) -> Tensor:
    """Log-probabilities of all scored nodes, each from one unpadded row through the model's own forward call."""
    parts = []
    for tree in trees:
        for index, node in enumerate(tree.nodes):
            if node.scored:
                ids = torch.tensor(path_ids(tree, index))
                logits = model(input_ids=ids[None], use_cache=False).logits[0]
                wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
                rows = (wide / temperature).log_softmax(-1)
                every = rows[:-1].gather(1, ids[1:, None])[:, 0]
                parts.append(every[max(0, len(ids) - 1 - len(node.ids)) :])
    return torch.cat(parts)


def random_ids(count: int, seed: int, vocabulary: int = VOCABULARY) -> tuple[int, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(vocabulary, (count,), generator=generator).tolist())


def forest() -> list[TokenTree]:
    """Trees with every shape that is laid out differently: chains, nested and breadth-first branches, a lone root."""
    return [
        TokenTree(
            (
                Node(random_ids(11, 0), scored=False),
                Node(random_ids(5, 1), 0),
                Node(random_ids(9, 2), 0),
                Node(random_ids(4, 3), 1),
                Node(random_ids(7, 4), 2),
                Node(random_ids(3, 5), 1),
                Node(random_ids(6, 6), 2, scored=False),
                Node(random_ids(2, 7), 6),
            )
        ),
        TokenTree((Node(random_ids(8, 8)), Node(random_ids(12, 9), 0), Node(random_ids(1, 10), 1))),
        TokenTree((Node(random_ids(1, 11)),)),
        TokenTree((Node(random_ids(23, 12), scored=False), *(Node(random_ids(2 + i, 13 + i), 0) for i in range(5)))),
    ]


def long_forest() -> list[TokenTree]:
    """Branches long enough to have rows of their own, after contexts of unequal length, some of them nested."""
    return [
        TokenTree((Node(random_ids(20, 0)), Node(random_ids(70, 1), 0), Node(random_ids(81, 2), 0))),
        TokenTree(
            (
                Node(random_ids(13, 3), scored=False),
                Node(random_ids(66, 4), 0),
                Node(random_ids(3, 5), 0),
                Node(random_ids(75, 6), 2),
                Node(random_ids(6, 7), 2),
                Node(random_ids(5, 8), 1),
                Node(random_ids(4, 9), 1),
            )
        ),
    ]
