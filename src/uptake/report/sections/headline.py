"""Headline: title, one or two sentences that say what happened, and the figures beneath them."""

from collections.abc import Iterator

from uptake.evaluate import Lengths, WinRate
from uptake.report.folder import Evaluation, MeanChange, RunFolder
from uptake.report.section import Figure, Header, LeftOut, Section
from uptake.report.text import number, percent, percent_range, signed, words

SAME_LENGTH = 0.02
TIMES = "\N{MULTIPLICATION SIGN}"
FIGURES = ("win_rate", "quality", "lengths", "follow_up_reward")


def build(run: RunFolder) -> Section:
    """Headline from whatever the run has; it is never left out, but its figures may be."""
    method = run.facts.method if run.facts else ""
    eyebrow = " \N{MIDDLE DOT} ".join(filter(None, ("Uptake", words(method))))
    header = Header(eyebrow, tuple(_figures(run.evaluation or Evaluation())), _compares(run))
    return Section(run.title, " ".join(_sentences(run)), header, left_out=tuple(_left_out(run.evaluation)))


def _compares(run: RunFolder) -> bool:
    """Whether the page has anything in the colors of before and after, rejected and chosen."""
    made_pairs = any(each.pairs is not None for each in run.rounds.values())
    return bool(run.evaluation or run.samples or made_pairs)


def _left_out(evaluation: Evaluation | None) -> Iterator[LeftOut]:
    if evaluation is None:
        yield LeftOut.no("evaluation.json", "Headline figures", "uptake eval")
    else:
        yield from (LeftOut(words(key), "not in evaluation.json.") for key in FIGURES if not getattr(evaluation, key))


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


def _quality(quality: MeanChange, lengths: Lengths | None) -> str:
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
    pairs, samples, rows = (
        sum(getattr(each, name) or 0 for each in run.rounds.values()) for name in ("pairs", "samples", "rows")
    )
    source = f"read from {number(rows)} rows" if rows else f"from {number(samples)} responses"
    made = f"{number(pairs)} pairs {source}" if pairs else ""
    if run.metrics:
        yield f"Trained for {number(_steps(run))} steps{made and ' on '}{made}."
    elif made:
        yield f"{made}." if rows else f"Made {made}."
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


def _change(label: str, change: MeanChange) -> Figure:
    moved = signed(change.after - change.before)
    return Figure(label, number(change.after), f"{number(change.before)} before, {moved}")
