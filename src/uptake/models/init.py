"""Random initialization of a dialogue model: a tokenizer learned from texts, and a small Llama."""

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from uptake.errors import InputError
from uptake.models.language_model import LanguageModel
from uptake.models.words import tiny_llama

PAD, END = "<|pad|>", "<|end|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
SMALLEST = 256 + len((PAD, END, *ROLES))  # every byte is a token

# The width of one attention head, as in most large models.
HEAD = 64


def byte_tokenizer(texts: Iterable[str], vocabulary: int = 4096) -> PreTrainedTokenizerFast:
    """Byte-level BPE learned from texts, with a chat template whose every turn is role token, content, end token.

    Any text can be spelled. The vocabulary, special tokens included, is smaller than asked where the texts do not hold
    so many pairs that occur twice. Raises InputError for a vocabulary that does not hold the bytes.
    """
    if vocabulary < SMALLEST:
        raise InputError(f"{vocabulary}", field="vocabulary", allowed=f"a whole number from {SMALLEST}")
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        special_tokens=[PAD, END, *ROLES],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=list(ROLES),
        chat_template=CHAT_TEMPLATE,
    )


def init_dialogue_model(
    texts: Iterable[str],
    *,
    vocabulary: int = 4096,
    width: int = 256,
    layers: int = 6,
    window: int = 512,
    seed: int = 0,
) -> LanguageModel:
    """A Llama with random weights that speaks the words of the texts; `window` is its longest sequence, in tokens.

    Raises InputError for sizes that make no model.
    """
    for name, size, low in (("layers", layers, 1), ("window", window, 2), ("seed", seed, 0)):
        if size < low:
            raise InputError(f"{size}", field=name, allowed=f"a whole number from {low}")
    if width < HEAD or width % HEAD:
        raise InputError(f"{width}", field="width", allowed=f"a multiple of {HEAD}")
    tokenizer = byte_tokenizer(texts, vocabulary)
    return tiny_llama(tokenizer, seed=seed, width=width, layers=layers, heads=width // HEAD, window=window)
