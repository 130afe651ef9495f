"""Policy gradient losses of an actor and its critic, one a token, unreduced.

Source: Schulman et al. 2017 (arXiv 1707.06347); the dual clip Ye et al. 2020 (arXiv 1912.09729).
"""

import torch

from uptake.ops.axes import PerToken


def clipped_surrogate(ratio: PerToken, advantage: PerToken, clip: float, dual_clip: float | None = None) -> PerToken:
    """Clipped surrogate loss `max(-A ratio, -A clip(ratio, 1 - clip, 1 + clip))`; of A < 0, at most `-A dual_clip`.

    `ratio` is the token's probability now over that when it was drawn. Gives no gradient where the ratio has moved by
    more than `clip` in the direction of A.
    """
    losses = torch.maximum(-advantage * ratio, -advantage * ratio.clamp(1 - clip, 1 + clip))
    if dual_clip is None:
        return losses
    return torch.where(advantage < 0, torch.minimum(losses, -advantage * dual_clip), losses)


def value_loss(values: PerToken, old_values: PerToken, returns: PerToken, clip: float | None = None) -> PerToken:
    """Value loss `(V - ret)^2 / 2`; with `clip` the larger of that and the same of V within `clip` of the old value."""
    losses = (values - returns) ** 2 / 2
    if clip is None:
        return losses
    clipped = old_values + (values - old_values).clamp(-clip, clip)
    return torch.maximum(losses, (clipped - returns) ** 2 / 2)
