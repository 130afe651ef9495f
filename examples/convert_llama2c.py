"""Convert a small llama2.c model (legacy export) and its tokenizer to a Transformers folder.

    python examples/convert_llama2c.py stories260K.bin tok512.bin stories260K

The folder loads with `uptake score --model stories260K`, with Transformers and with vLLM. These models were trained on
children's stories and know no chat format, so Uptake uses its plain one.
"""

import struct
import sys
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, normalizers
from tokenizers.models import BPE
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

HEADER = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")


def read_model(path: Path) -> LlamaForCausalLM:
    """The weights of a legacy export as a Transformers model; a positive vocabulary size means tied embeddings."""
    raw = path.read_bytes()
    *shape, vocabulary, window = struct.unpack("<7i", raw[:28])
    config = LlamaConfig(
        **dict(zip(HEADER, shape, strict=True)),
        vocab_size=abs(vocabulary),
        max_position_embeddings=window,
        tie_word_embeddings=vocabulary > 0,
        rms_norm_eps=1e-5,
        bos_token_id=1,
        eos_token_id=2,
    )
    numbers = torch.from_numpy(np.frombuffer(raw, dtype="<f4", offset=28).copy())
    model = LlamaForCausalLM(config)
    model.load_state_dict(_weights(numbers, config), strict=vocabulary <= 0)
    return model


def _weights(numbers: Tensor, config: LlamaConfig) -> dict[str, Tensor]:
    """Cut the run of numbers into named tensors, in the order of the export."""
    width, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    head = width // config.num_attention_heads
    kv_width = head * config.num_key_value_heads
    taken = 0

    def take(*shape: int) -> Tensor:
        nonlocal taken
        size = int(np.prod(shape))
        taken += size
        return numbers[taken - size : taken].view(*shape)

    weights = {"model.embed_tokens.weight": take(config.vocab_size, width)}
    stacks = {
        "input_layernorm": take(layers, width),
        "self_attn.q_proj": _half_split(take(layers, width, width), head),
        "self_attn.k_proj": _half_split(take(layers, kv_width, width), head),
        "self_attn.v_proj": take(layers, kv_width, width),
        "self_attn.o_proj": take(layers, width, width),
        "post_attention_layernorm": take(layers, width),
        "mlp.gate_proj": take(layers, inner, width),
        "mlp.down_proj": take(layers, width, inner),
        "mlp.up_proj": take(layers, inner, width),
    }
    weights["model.norm.weight"] = take(width)
    take(2, config.max_position_embeddings, head // 2)  # rotary tables, which Transformers computes itself
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"] if taken == len(numbers) else take(-1, width)
    return weights | {
        f"model.layers.{layer}.{name}.weight": stack[layer] for name, stack in stacks.items() for layer in range(layers)
    }


def _half_split(weight: Tensor, head: int) -> Tensor:
    """Rotary pairs from neighbours (llama2.c) to halves (Transformers)."""
    layers, rows, columns = weight.shape
    return weight.view(layers, rows // head, head // 2, 2, columns).transpose(2, 3).reshape(layers, rows, columns)


def read_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    """The byte-pair tokenizer: pieces with scores, best score merged first, unknown characters as bytes."""
    raw = path.read_bytes()
    pieces: list[tuple[str, float]] = []
    place = 4
    while place < len(raw):
        score, length = struct.unpack_from("<fi", raw, place)
        pieces.append((raw[place + 8 : place + 8 + length].decode(), score))
        place += 8 + length
    names = ["<unk>", "<s>", "</s>"] + [piece.replace(" ", "▁") for piece, _ in pieces[3:]]
    vocabulary = {name: index for index, name in enumerate(names)}
    merges = [
        (-pieces[index][1], (name[:cut], name[cut:]))
        for name, index in vocabulary.items()
        if index > 258
        for cut in range(1, len(name))
        if name[:cut] in vocabulary and name[cut:] in vocabulary
    ]
    ranked = [pair for _, pair in sorted(merges, key=lambda merge: merge[0])]
    tokenizer = Tokenizer(BPE(vocabulary, ranked, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", add_bos_token=True
    )


def main() -> None:
    if len(sys.argv) != 4:
        raise SystemExit("usage: convert_llama2c.py MODEL.bin TOKENIZER.bin FOLDER")
    model_file, tokenizer_file, folder = map(Path, sys.argv[1:])
    read_model(model_file).save_pretrained(folder)
    read_tokenizer(tokenizer_file).save_pretrained(folder)
    print(f"{folder}: ready")


if __name__ == "__main__":
    main()
