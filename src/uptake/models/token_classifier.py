"""A policy with a token head as the token classifier that Transformers knows, and such a classifier as a head again.

A head of rewards becomes one label, "reward", whose logit is the reward. A head of log-odds `d` becomes two labels with
the logits `-d / 2` and `d / 2`, so that a softmax gives the probability that a token is good.
"""

import copy
from typing import Any, Final

import torch
from torch import nn
from transformers import AutoModelForTokenClassification, PreTrainedModel

from uptake.errors import ModelError
from uptake.models.classifier import empty, merged
from uptake.models.language_model import LanguageModel

# The heads that make a policy a token classifier.
TOKEN_REWARD: Final = "token_reward"
TOKEN_LOGIT: Final = "token_logit"
LABELS: Final = {TOKEN_REWARD: ("reward",), TOKEN_LOGIT: ("bad", "good")}


def head_name(logit: bool) -> str:
    """The name of the head whose outputs are log-odds, or rewards."""
    return TOKEN_LOGIT if logit else TOKEN_REWARD


def check_token_classifier(lm: LanguageModel) -> None:
    """Raise ModelError where the model could not be saved as a token classifier once it is trained."""
    _shell(lm, LABELS[TOKEN_REWARD])


def as_token_classifier(lm: LanguageModel) -> PreTrainedModel:
    """The classifier that says what the model's token head says; it shares the weights of the backbone.

    An adapter is merged into a copy. Raises ModelError where Transformers has no classifier of this architecture.
    """
    name = next(name for name in LABELS if name in lm.heads)
    classifier: Any = _shell(lm, LABELS[name])
    setattr(classifier, classifier.base_model_prefix, merged(lm).base_model)
    weights = lm.heads[name].state_dict()
    weight = weights["weight"]
    bias = weights.get("bias", weight.new_zeros(1))
    if name == TOKEN_LOGIT:
        weight, bias = torch.cat((-weight / 2, weight / 2)), torch.cat((-bias / 2, bias / 2))
    linear_of(classifier).load_state_dict({"weight": weight.to(lm.dtype), "bias": bias.to(lm.dtype)}, assign=True)
    return classifier.eval()  # type: ignore[no-any-return]


def linear_of(classifier: PreTrainedModel) -> nn.Linear:
    """The last layer of a token classifier; ModelError where it is not a linear one with a bias."""
    found = [getattr(classifier, name, None) for name in ("score", "classifier")]
    linear = next((layer for layer in found if isinstance(layer, nn.Linear)), None)
    if linear is None or linear.bias is None:
        raise ModelError(f"{type(classifier).__name__} is no backbone with a linear layer over labels")
    return linear


def head_of(classifier: PreTrainedModel) -> tuple[str, torch.Tensor, torch.Tensor]:
    """The head that a classifier of one or two labels holds: its name, its weight "1 width" and its bias "1".

    Of two labels the second is the good one. Raises ModelError for more.
    """
    linear = linear_of(classifier)
    weight, bias = linear.weight.detach(), linear.bias.detach()
    if len(bias) > 2:
        raise ModelError(f"{type(classifier).__name__} has {len(bias)} labels; a token reward has one or two")
    if len(bias) == 1:
        return TOKEN_REWARD, weight, bias
    return TOKEN_LOGIT, weight[1:] - weight[:1], bias[1:] - bias[:1]


def _shell(lm: LanguageModel, labels: tuple[str, ...]) -> PreTrainedModel:
    """The architecture's classifier without weights."""
    config = copy.deepcopy(lm.base.config)
    config.num_labels = len(labels)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}
    shell = empty(AutoModelForTokenClassification, lm, config, "token classifier")
    linear_of(shell)
    if type(getattr(shell, shell.base_model_prefix)) is not type(lm.decoder):
        raise ModelError(f"{lm.name}: the token classifier of {config.model_type} has another backbone")
    return shell
