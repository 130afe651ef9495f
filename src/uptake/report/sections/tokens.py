"""Tokens: sampled responses colored by what each of their tokens got."""

from dataclasses import dataclass, replace

from uptake.data import TokenView
from uptake.report.folder import RunFolder
from uptake.report.heat import HeatMap, heat_map
from uptake.report.section import LeftOut, Section

OPEN, MOST = 3, 12
ABOUT = (
    "What each token of a sampled response got, the newest responses first. Credit is the advantage that the policy "
    "learned from; value is what the critic expected before the token."
)


@dataclass(frozen=True, slots=True)
class TokenCards:
    """Heat maps of responses, of which the first `shown` stand open."""

    map: HeatMap
    shown: int


def build(run: RunFolder) -> Section | LeftOut:
    """The newest responses first, each headed by the step that it is from."""
    if not run.tokens:
        return LeftOut.no("response in tokens.jsonl", "Tokens")
    newest = sorted(run.tokens, key=lambda view: -(view.step or 0))[:MOST]
    headed = [replace(view, title=", ".join(filter(None, (_step(view), view.title)))) for view in newest]
    return Section("Tokens", ABOUT, TokenCards(heat_map(headed), OPEN), styles=("heat.css",))


def _step(view: TokenView) -> str:
    return "" if view.step is None else f"after {view.step:,} steps"
