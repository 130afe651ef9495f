"""The first sentences of a report and the figures beneath them."""

from collections.abc import Iterator
from dataclasses import dataclass

from uptake.evaluate import Lengths, WinRate
from uptake.report.folder import Change, Evaluation, RunFolder
from uptake.report.text import number, percent, percent_range, signed

SAME_LENGTH = 0.02
TIMES = "\N{MULTIPLICATION SIGN}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One headline figure: `Figure("Win rate", "71.4%", "64.9-77.3%, 95% interval", (0.649, 0.714, 0.773))`.

    `interval` is drawn where there is one: low, rate, high as shares.
    """

    label: str
    value: str
    detail: str = ""
    interval: tuple[float, float, float] | None = None


def headline(run: RunFolder) -> str:
    """One or two sentences that say what happened, from whatever the run has."""
    return " ".join(_sentences(run))


def figures(evaluation: Evaluation) -> tuple[Figure, ...]:
    """The headline figures that the evaluation has: win rate, quality, follow-up score, length."""
    return tuple(_figures(evaluation))


def _sentences(run: RunFolder) -> Iterator[str]:
    evaluation = run.evaluation or Evaluation()
    if evaluation.win_rate:
        yield _verdict(run, evaluation.win_rate, evaluation)
    if evaluation.quality:
        yield _quality(evaluation.quality, evaluation.lengths)
    if not (evaluation.win_rate or evaluation.quality):
        yield from _work_done(run)


def _verdict(run: RunFolder, win: WinRate, evaluation: Evaluation) -> str:
    start = f"After {number(_steps(run))} steps, new answers" if run.metrics else "New answers"
    judge = f", judged by the {evaluation.judge}" if evaluation.judge else ""
    several = f"answers to {number(evaluation.prompts)} " if evaluation.prompts and evaluation.prompts < win.n else ""
    interval = f"95% interval {percent_range(win.low, win.high)}{judge}"
    share = f"{percent(win.rate)} of {number(win.n)} {several}prompts ({interval})"
    if win.low > 0.5:
        return f"{start} beat old ones on {share}."
    if win.high < 0.5:
        return f"{start} are worse: they beat old ones on only {share}."
    return f"{start} are not clearly better or worse: they beat old ones on {share}."


def _quality(quality: Change, lengths: Lengths | None) -> str:
    before, after = number(quality.before), number(quality.after)
    if before == after:
        sentence = f"Mean quality stayed at {after}"
    else:
        sentence = f"Mean quality {'rose' if quality.after > quality.before else 'fell'} from {before} to {after}"
    if lengths is None or lengths.ratio is None:
        return sentence + "."
    growth = lengths.ratio - 1
    if abs(growth) < SAME_LENGTH:
        return sentence + " at the same length."
    return sentence + f" while answers became {percent(abs(growth))} {'longer' if growth > 0 else 'shorter'}."


def _work_done(run: RunFolder) -> Iterator[str]:
    if run.metrics:
        yield f"Trained for {number(_steps(run))} steps."
    pairs, samples = (sum(getattr(mined, name) or 0 for mined in run.rounds.values()) for name in ("pairs", "samples"))
    if pairs:
        yield f"Mined {number(pairs)} pairs from {number(samples)} responses."
    if run.samples:
        yield f"Sampled responses to {number(len(run.samples))} prompts."


def _steps(run: RunFolder) -> int:
    return int(run.metrics[-1]["step"] or 0)


def _figures(evaluation: Evaluation) -> Iterator[Figure]:
    win, lengths = evaluation.win_rate, evaluation.lengths
    if win:
        tally = f"{number(win.wins)} won, {number(win.ties)} tied, {number(win.losses)} lost"
        yield Figure("Win rate", percent(win.rate), tally, (win.low, win.rate, win.high))
    if evaluation.quality:
        yield _change("Quality", evaluation.quality)
    if evaluation.follow_up_reward:
        yield _change("Follow-up score", evaluation.follow_up_reward)
    if lengths:
        ratio = "none" if lengths.ratio is None else f"{number(lengths.ratio)}{TIMES}"
        means = f"{number(lengths.before.mean)} before, {number(lengths.after.mean)} after, in tokens"
        yield Figure("Length", ratio, means)


def _change(label: str, change: Change) -> Figure:
    moved = signed(change.after - change.before)
    return Figure(label, number(change.after), f"{number(change.before)} before, {moved}")
