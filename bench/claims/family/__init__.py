"""What is claimed, one file a family; a new file is a new row here."""

from collections.abc import Callable, Mapping, Sequence

from claims.claim import Claim
from claims.family import calibration, feedback, online, person, ppo, reader, relatives, reward_model, token_reward
from claims.family.sizes import SHRINK

FAMILIES: Mapping[str, Callable[[], Sequence[Claim]]] = {
    "reward_model": reward_model.claims,
    "calibration": calibration.claims,
    "feedback": feedback.claims,
    "token_reward": token_reward.claims,
    "reader": reader.claims,
    "online": online.claims,
    "ppo": ppo.claims,
    "relatives": relatives.claims,
    "person": person.claims,
}
# Those that need nothing but the town.
TOWN = tuple(name for name in FAMILIES if name != "person")

__all__ = ["FAMILIES", "SHRINK", "TOWN"]
