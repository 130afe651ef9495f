"""Options of a method: what a person may set, checked when it is set, and known to have been used when it was."""

import difflib
import inspect
from collections.abc import Callable
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from uptake.errors import InputError

T = TypeVar("T")

Schedule = Literal["constant", "linear", "cosine"]
OptimizerName = Literal["adamw", "rmsprop", "adafactor"]
Precision = Literal["fp32", "bf16"]

# Options that an optimizer has no use for.
UNUSED: dict[OptimizerName, tuple[str, ...]] = {"adamw": (), "rmsprop": ("betas",), "adafactor": ("betas", "eps")}


class MethodConfig(BaseModel):
    """Options of a method, as a base: those of the update, which all methods share; an unknown option is an error.

    A method gives `lr`, the size of a batch, and what its paper has otherwise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    lr: float
    epochs: int = 1
    warmup: float = 0.1
    warmup_cap: float | None = 0.1
    schedule: Schedule = "cosine"
    optimizer: OptimizerName = "adamw"
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip: float | None = 1.0
    precision: Precision = "fp32"
    micro_tokens: int | None = None
    recompute: bool = False

    @model_validator(mode="after")
    def _optimizer_uses_its_options(self) -> Self:
        for name in UNUSED[self.optimizer]:
            if name in self.model_fields_set:
                others = ", ".join(each for each, unused in UNUSED.items() if name not in unused)
                raise ValueError(f"{name} is not used by optimizer {self.optimizer!r}, only by {others}")
        return self


def fill(part: Callable[..., T], config: BaseModel) -> T:
    """The part with every field that the options have a value for."""
    wanted = inspect.signature(part).parameters.keys() & type(config).model_fields.keys()
    return part(**{name: getattr(config, name) for name in wanted})


def built(build: Callable[[Any], T], config: BaseModel) -> T:
    """What `build` makes of the options.

    Raises InputError for fields that neither a part nor the code of `build` has read: an option without effect.
    """
    used: set[str] = set()

    class Watched(type(config)):  # type: ignore[misc]
        def __getattribute__(self, name: str) -> Any:
            used.add(name)
            return super().__getattribute__(name)

    made = build(Watched.model_construct(config.model_fields_set, **dict(config)))
    idle = [name for name in type(config).model_fields if name not in used]
    if idle:
        allowed = "fields that build reads, or that are named as those of a part it fills"
        raise InputError(f"no part takes {', '.join(idle)}, and no code reads it", field=idle[0], allowed=allowed)
    return made


def validation_error(error: ValidationError, config: type[BaseModel]) -> InputError:
    """The first error of options as one line that names the option, what was given, and what is near or allowed."""
    first = error.errors()[0]
    if not first["loc"]:
        return InputError(str(first["ctx"]["error"]))
    field = ".".join(map(str, first["loc"]))
    if first["type"] != "extra_forbidden":
        return InputError(f"{first['msg']}, not {first['input']!r}", field=field)
    near = difflib.get_close_matches(field, config.model_fields, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return InputError(f"this method has no such option{hint}", field=field, allowed=", ".join(config.model_fields))
