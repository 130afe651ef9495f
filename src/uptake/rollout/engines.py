"""The engines that sample, by name, for recipes."""

from collections.abc import Callable, Mapping
from dataclasses import fields

from uptake.rollout.policy import PolicySamples
from uptake.rollout.samples import Samples
from uptake.rollout.server import ServerSamples
from uptake.rollout.vllm import VLLMSamples
from uptake.support.settings import Choice, named

ENGINES: Mapping[str, Callable[..., Samples]] = {
    "transformers": PolicySamples,
    "vllm": VLLMSamples,
    "server": ServerSamples,
}


def engine(choice: Choice) -> Callable[..., Samples]:
    """The producer of a name, or of a name with settings, to be given the sampling options: `{"vllm": {"url": ...}}`.

    Raises InputError for an unknown name or setting, and for one that is missing.
    """
    return named("engine", choice, ENGINES, elsewhere=[field.name for field in fields(Samples)])
