"""Drawing of the next token: a filtered distribution, and one recorded random number per token.

Each token comes from inverting the cumulative distribution, in the order of token ids, at one uniform number. The
numbers of a sample are a function of (seed, prompt key, sample) alone, so a run that is re-ordered, re-batched or
resumed draws the same tokens, up to rounding of the model's own logits.
"""

from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from uptake.errors import InputError

# Logits of one pass, in floats: its temporaries stay in the processor's cache (4 MB each).
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling settings: `Sampling(n=8, temperature=0.7, top_p=0.9)`.

    `n` samples per prompt; `temperature` 0 takes the likeliest token. `top_k` keeps the k likeliest tokens (0: all);
    `top_p` then keeps the fewest likeliest of these that hold this share of their probability. Tokens exactly as likely
    as the last one kept are kept too. Raises InputError on a value out of range.
    """

    n: int = 8
    temperature: float = 0.7
    top_p: float = 0.9
    top_k: int = 0
    max_new_tokens: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        for name, good, allowed in (
            ("n", self.n >= 1, "at least 1"),
            ("temperature", 0 <= self.temperature < float("inf"), "0 (greedy) or more"),
            ("top_p", 0 < self.top_p <= 1, "more than 0, at most 1"),
            ("top_k", self.top_k >= 0, "0 (all tokens) or more"),
            ("max_new_tokens", self.max_new_tokens >= 1, "at least 1"),
        ):
            if not good:
                raise InputError(f"{name} is {getattr(self, name)}", field=name, allowed=allowed)

    @property
    def exact(self) -> bool:
        """Whether log-probabilities of what is drawn are those of the model's own distribution."""
        return self.temperature == 0 or (self.temperature == 1 and self.top_p == 1 and self.top_k == 0)


def round_seed(seed: int, round_: int) -> int:
    """The seed of a round of a run."""
    return int.from_bytes(sha256(f"{seed} {round_}".encode()).digest()[:7], "big")


def sample_seed(seed: int, key: str, sample: int) -> int:
    """The seed of one sample, for engines that draw their own random numbers: 31 bits, which every one takes."""
    return int.from_bytes(sha256(f"{seed}/{key}/{sample}".encode()).digest()[:4], "big") >> 1


def uniforms(seed: int, key: str, sample: int, count: int) -> Float[np.ndarray, " count"]:
    """The random numbers in [0, 1) of one sample, one per token; a shorter run's are a prefix of a longer one's."""
    digest = sha256(f"{seed}/{key}/{sample}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16]))).random(count)


def draw(
    logits: Float[Tensor, "rows vocabulary"], numbers: Float[Tensor, "rows draws"], sampling: Sampling
) -> tuple[Int[Tensor, "rows draws"], Float[Tensor, "rows draws"]]:
    """Draw tokens from each row at its uniform numbers (float64); return ids and log-probabilities.

    Log-probabilities are those of the distribution drawn from, after temperature and filters. At temperature 0 they are
    those of the model's own, untempered distribution. A not-a-number among the logits shows in the log-probabilities.
    """
    one = _greedy if sampling.temperature == 0 else _invert
    step = max(1, CHUNK // logits.shape[1])
    cuts = [slice(start, start + step) for start in range(0, len(logits), step)]
    ids, logps = zip(*(one(logits[cut], numbers[cut], sampling) for cut in cuts), strict=True)
    return torch.cat(ids), torch.cat(logps)


def _greedy(logits: Tensor, numbers: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    ids = logits.argmax(-1, keepdim=True)
    logps = logits.gather(-1, ids) - logits.logsumexp(-1, keepdim=True)
    return ids.expand_as(numbers), logps.expand_as(numbers)


def _invert(logits: Tensor, numbers: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    scores = (logits - logits.amax(-1, keepdim=True)).div_(sampling.temperature)
    weights = scores.exp()
    if sampling.top_k or sampling.top_p < 1:
        weights *= weights >= _floor(weights, sampling)
    # In float64, where a number below 1 times the total stays below the total: a filtered token is never reached.
    mass = weights.cumsum(-1, dtype=torch.float64)
    total = mass[:, -1:]
    ids = torch.searchsorted(mass, numbers * total, right=True)
    ids = ids.clamp_(max=logits.shape[1] - 1)  # beyond the end only where the mass is not a number
    return ids, scores.gather(-1, ids) - total.log().to(scores.dtype)


def _floor(weights: Float[Tensor, "rows vocabulary"], sampling: Sampling) -> Float[Tensor, "rows 1"]:
    """The smallest weight that the filters keep."""
    if 0 < sampling.top_k < weights.shape[1]:
        ascending = weights.topk(sampling.top_k).values.flip(-1)
    else:
        ascending = _ascending(weights)
    if sampling.top_p == 1:
        return ascending[:, :1]
    mass = ascending.cumsum(-1)
    first = torch.searchsorted(mass, (1 - sampling.top_p) * mass[:, -1:], right=True)
    return ascending.gather(-1, first.clamp_(max=ascending.shape[1] - 1))


def _ascending(weights: Tensor) -> Tensor:
    """Each row in ascending order; on a CPU through NumPy, whose vector sort is many times as fast as Torch's."""
    if weights.device.type == "cpu":
        return torch.from_numpy(np.sort(weights.numpy(), axis=-1))
    return weights.sort().values
