"""What verl's own functions compute of `cases.tables`: `python tests/parity/peer_verl.py` writes `peer_verl.json`."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from parity.cases import CLIP, DUAL_CLIP, GAMMA, LAM, VALUE_CLIP, record, sketch, tables

# So large that it never binds: verl has no switch for either.
NEVER = 1e30


def main() -> None:
    """Write the values."""
    core: Any = import_module("verl.trainer.ppo.core_algos")
    functional: Any = import_module("verl.utils.torch_functional")
    given = tables()
    mask = given["mask"].double()
    values: dict[str, Any] = {}
    for mean, mode in (("token", "token-mean"), ("response", "seq-mean-token-mean")):
        for name, dual in (("clipped", NEVER), ("dual", DUAL_CLIP)):
            logps = given["logps"].clone().requires_grad_()
            loss, *_ = core.compute_policy_loss(
                given["old_logps"],
                logps,
                given["advantages"],
                mask,
                cliprange=CLIP,
                clip_ratio_c=dual,
                loss_agg_mode=mode,
            )
            loss.backward()
            values[f"surrogate, {name}, {mean} mean"] = [loss.item(), *sketch([logps.grad])]
    for name, clip in (("clipped", VALUE_CLIP), ("plain", NEVER)):
        predicted = given["values"].clone().requires_grad_()
        loss, _ = core.compute_value_loss(predicted, given["returns"], given["old_values"], mask, clip)
        loss.backward()
        values[f"value loss, {name}"] = [loss.item(), *sketch([predicted.grad])]
    for gamma, lam in ((1.0, 1.0), (GAMMA, LAM), (1.0, 0.0)):
        advantages, returns = core.compute_gae_advantage_return(given["rewards"], given["old_values"], mask, gamma, lam)
        values[f"whitened advantages, gamma {gamma}, lam {lam}"] = sketch([advantages * mask])
        values[f"returns, gamma {gamma}, lam {lam}"] = sketch([returns * mask])
    values["whitened"] = sketch([functional.masked_whiten(given["advantages"], mask) * mask])
    for estimator in ("k1", "k2", "k3"):
        kl = core.kl_penalty(given["logps"], given["ref_logps"], estimator)
        values[estimator] = sketch([kl])
    record("peer_verl", "verl", values)


if __name__ == "__main__":
    main()
