"""A policy with a score head as the sequence classifier that Transformers knows: backbone, and one bias-free score.

A score is read at the end-of-turn token of the response. A classifier of Transformers reads the last token that is not
padding, so padding must be another token, and the chat template must write nothing after the end of the turn.
"""

import copy
from typing import Any, Final

import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from uptake.errors import ModelError
from uptake.models.language_model import LanguageModel

# The head that makes a policy a classifier, and its name inside the classifiers of Transformers.
SCORE: Final = "score"


def check_classifier(lm: LanguageModel) -> None:
    """Raise ModelError where the model could not be saved as a sequence classifier once it is trained."""
    _shell(lm, pad=None)


def as_classifier(lm: LanguageModel, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """The classifier that gives the scores of the model's score head; it shares the weights of the backbone.

    An adapter is merged into a copy. Raises ModelError where Transformers has no classifier of this architecture.
    """
    classifier: Any = _shell(lm, tokenizer.pad_token_id)
    setattr(classifier, classifier.base_model_prefix, merged(lm).base_model)
    weights = {name: weight.to(lm.dtype) for name, weight in lm.heads[SCORE].state_dict().items()}
    classifier.score.load_state_dict(weights, assign=True)
    return classifier.eval()  # type: ignore[no-any-return]


def merged(lm: LanguageModel) -> PreTrainedModel:
    """The Transformers model, its adapter merged into a copy where there is one."""
    model: Any = lm.model
    return copy.deepcopy(model).merge_and_unload() if hasattr(model, "merge_and_unload") else lm.base


def classifier_tokenizer(
    tokenizer: PreTrainedTokenizerBase, chat_template: str, closing: str
) -> PreTrainedTokenizerBase:
    """A copy of the tokenizer under which a whole conversation ends where scores are read.

    `closing` is the text that ends a turn of the assistant. Where the padding token is the end-of-turn token, another
    special token takes its place; without one there is no padding, and Transformers then refuses more than one row.
    """
    (*_, end) = tokenizer(closing, add_special_tokens=False)["input_ids"]
    spare = (tokenizer.pad_token_id, getattr(tokenizer, "unk_token_id", None), tokenizer.bos_token_id)
    other: Any = copy.deepcopy(tokenizer)
    other.pad_token_id = next((token for token in spare if token is not None and token != end), None)
    other.chat_template = ending_with(closing, chat_template)
    return other  # type: ignore[no-any-return]


def ending_with(closing: str, chat_template: str) -> str:
    """The template without what it writes after an answer at the end of a conversation, such as a line break."""
    # Jinja drops one line break at the end of a template; the plus signs keep the blanks beside our own tags.
    whole = f"{{% set whole +%}}{chat_template.removesuffix(chr(10))}{{%+ endset %}}"
    answered = "not add_generation_prompt and messages[-1]['role'] == 'assistant'"
    cut = f"whole.rsplit({closing!r}, 1)[0] + {closing!r}"
    return f"{whole}{{{{ ({cut}) if {answered} else whole }}}}"


def _shell(lm: LanguageModel, pad: int | None) -> PreTrainedModel:
    """The architecture's classifier without weights."""
    config = copy.deepcopy(lm.base.config)
    config.num_labels = 1
    config.get_text_config().pad_token_id = pad
    shell: Any = empty(AutoModelForSequenceClassification, lm, config, "sequence classifier")
    score, backbone = getattr(shell, SCORE, None), getattr(shell, shell.base_model_prefix)
    if not isinstance(score, nn.Linear) or score.bias is not None or type(backbone) is not type(lm.decoder):
        raise ModelError(
            f"{lm.name}: the sequence classifier of {config.model_type} is no backbone with a linear score"
        )
    return shell


def empty(auto: Any, lm: LanguageModel, config: Any, kind: str) -> PreTrainedModel:
    """A model of the policy's architecture without weights; ModelError where Transformers has no such `kind` of it."""
    try:
        with torch.device("meta"):
            made: PreTrainedModel = auto.from_config(
                config, dtype=lm.dtype, attn_implementation="eager", trust_remote_code=False
            )
    except ValueError as error:
        raise ModelError(f"{lm.name}: Transformers has no {kind} of {config.model_type}") from error
    return made
