"""Pairs: what every round made of its responses, what it dropped, and by which margins it learns."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from uptake.report.charts import HistogramChart, histogram_chart
from uptake.report.folder import RoundSummary, RunFolder
from uptake.report.rates import Rate, RateGroup
from uptake.report.section import LeftOut, Section
from uptake.report.text import words

PAIRS = (
    "From prompts to pairs, and why the rest was dropped. "
    "Margin: score of the chosen response over that of the rejected one."
)
RESPONSES = "How many were sampled, and why some were not learned from."
READ_PAIRS = "As the rows hold them, and why the rest was left out."
READ = "How many were read, and why some were not learned from."

# Rounds that a table shows; of more, as many at even distances up to the last.
MOST_ROUNDS = 40

# What a round is known by; a column that no round fills is left out.
COLUMNS = {
    "rows": "Rows",
    "prompts": "Prompts",
    "samples": "Responses",
    "pairs": "Pairs",
    "dropped": "Dropped",
    "mean_length_chosen": "Tokens, chosen",
    "mean_length_rejected": "rejected",
    "longer_wins": "Longer wins",
    "orders_agree": "Orders agree",
}


@dataclass(frozen=True, slots=True)
class RoundTable:
    """Rounds as rows of a table, with what is drawn below it; `columns` are fields of a round and their headings."""

    columns: tuple[tuple[str, str], ...]
    rounds: Mapping[str, RoundSummary]
    margins: tuple[HistogramChart, ...]
    dropped: tuple[tuple[str, int], ...]
    agreement: RateGroup | None


def build(run: RunFolder) -> Section | LeftOut:
    """The rounds of the run; left out where no pairs were made or read and every response was learned from."""
    rounds = run.rounds
    if not rounds:
        return LeftOut.no("rounds/*/summary.json", "Pairs")
    makes_pairs = any(each.pairs is not None for each in rounds.values())
    if not makes_pairs and not any(any(each.dropped.values()) for each in rounds.values()):
        return LeftOut("Pairs", "the method makes none, and no response was dropped.")
    columns = tuple(_columns(rounds.values()))
    every = -(-len(rounds) // MOST_ROUNDS)
    shown = {name: each for number, (name, each) in enumerate(rounds.items(), 1) if not (len(rounds) - number) % every}
    table = RoundTable(columns, shown, _margins(rounds), _dropped(rounds.values()), _agreement(rounds))
    read = all(each.rows is not None for each in rounds.values())
    part = "" if every == 1 else f" Shown are {len(shown)} of {len(rounds):,} rounds."
    if makes_pairs:
        return Section("Pairs", (READ_PAIRS if read else PAIRS) + part, table)
    return Section("Rows", READ + part, table) if read else Section("Responses", RESPONSES + part, table)


def _columns(rounds: Collection[RoundSummary]) -> Iterator[tuple[str, str]]:
    for key, name in COLUMNS.items():
        if any(getattr(each, key) is not None for each in rounds):
            yield key, name


def _dropped(rounds: Iterable[RoundSummary]) -> tuple[tuple[str, int], ...]:
    total: Counter[str] = sum((Counter(each.dropped) for each in rounds), Counter())
    return tuple(total.most_common())


def _agreement(rounds: Mapping[str, RoundSummary]) -> RateGroup | None:
    """How often each category prefers the response that the total prefers, in the last round."""
    name = list(rounds)[-1]
    agreement = rounds[name].category_agreement
    rates = tuple(Rate(words(key), rate) for key, rate in agreement.items() if rate is not None)
    return RateGroup(f"Agrees with the total, round {name}", rates) if rates else None


def _margins(rounds: Mapping[str, RoundSummary]) -> tuple[HistogramChart, ...]:
    """Histograms of the first round and the last."""
    drawn = [(name, each.margin_histogram) for name, each in rounds.items() if each.margin_histogram]
    ends = drawn if len(drawn) <= 2 else [drawn[0], drawn[-1]]
    return tuple(
        histogram_chart("Margin" if len(drawn) == 1 else f"Margin, round {name}", histogram) for name, histogram in ends
    )
