"""`uptake edit`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from uptake.cli.options import Device, DropBad, Dtype, Limit, Overwrite, app, check_output, options_of, out, say
from uptake.errors import InputError

Source = Annotated[
    str, typer.Argument(metavar="PAIRS", help="Preferences, whose rejected response is edited, or single responses.")
]
Target = Annotated[Path, typer.Option("--out", help="Output: .jsonl[.gz], .csv or .parquet.")]
Who = Annotated[str, typer.Option(help="Who edits: model, server, oracle or person.")]
EditorModel = Annotated[str | None, typer.Option(help="The model that editor `model` asks: folder or Hub name.")]
EditorSets = Annotated[
    list[str] | None, typer.Option("--editor-set", help="One setting of the editor: prompt=with-better.")
]
Judge = Annotated[
    str | None,
    typer.Option(help="Who must prefer the edit in both orders: a contestant of `bench`, server, person or none."),
]
JudgeModel = Annotated[str | None, typer.Option(help="The model that the judge uses: folder or Hub name.")]
JudgeSets = Annotated[list[str] | None, typer.Option("--judge-set", help="One setting of judge `server` or `person`.")]
Ratio = Annotated[float, typer.Option(help="The largest share of units that an edit may change.")]
Shortest = Annotated[float, typer.Option(help="Least length of an edit over that of the response.")]
Longest = Annotated[float, typer.Option(help="Largest length of an edit over that of the response.")]
Block = Annotated[int, typer.Option(help="So many units in a row that only moved make the edit a move.")]
Tokenizer = Annotated[str | None, typer.Option(help="Count in tokens of this model. Default: words and marks.")]
Weight = Annotated[float, typer.Option(help="What an unchanged response counts beside an edited one.")]

# Who is paid or takes time, and the setting that names the file of the answers.
_KEPT = {"server": "cache", "person": "answers"}


@app.command()
def edit(
    source: Source,
    *,
    target: Target,
    editor: Who,
    editor_model: EditorModel = None,
    editor_sets: EditorSets = None,
    judge: Judge = None,
    judge_model: JudgeModel = None,
    judge_sets: JudgeSets = None,
    max_edit_ratio: Ratio = 0.5,
    min_length: Shortest = 0.5,
    max_length: Longest = 2.0,
    block: Block = 8,
    tokenizer: Tokenizer = None,
    no_edit_weight: Weight = 0.1,
    limit: Limit = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    drop_bad: DropBad = False,
    overwrite: Overwrite = False,
) -> None:
    """Make the worse response better with as few changes as possible, so that one sees which words were wrong.

    Example: `uptake edit pairs.jsonl --editor model --editor-model ./large --judge judge:./other --out edits.jsonl`
    """
    from uptake.data.resumable import journal_path
    from uptake.edits.editors import editor as find
    from uptake.edits.rules import Rules
    from uptake.edits.units import Tokens, Words
    from uptake.tasks.edit import CHUNK, edit_file, read_drafts

    _check_judge(judge, editor, judge_sets)
    check_output(target, overwrite=overwrite, resumes=journal_path(target))
    drafts = read_drafts(source, target, limit=limit, drop_bad=drop_bad)
    units = Words() if tokenizer is None else Tokens(_chat(tokenizer))
    rules = Rules(max_edit_ratio, min_length, max_length, block, units)
    settings = {**_files(editor, target), **options_of(editor_sets)}
    loading: dict[str, Any] = {"device": device, "dtype": dtype}
    by = find({editor: settings}, model=editor_model, rules=rules, **loading)
    annotator = _annotator(judge, judge_model, judge_sets, target, loading)
    # A person gets all responses at once: one page, one count.
    chunk = 1 << 30 if editor == "person" else CHUNK
    options: dict[str, Any] = {"no_edit_weight": no_edit_weight, "overwrite": overwrite, "chunk": chunk}
    summary = edit_file(drafts, by, target, annotator=annotator, rules=rules, **options)
    _print_summary(summary, target)


def _files(editor: str, target: Path) -> dict[str, str]:
    """Answers that somebody was paid or asked for are kept beside the output, unless a setting says otherwise."""
    return {_KEPT[editor]: str(target.with_name(f"{target.name}.{editor}.sqlite"))} if editor in _KEPT else {}


def _chat(tokenizer: str) -> Any:
    from transformers import AutoTokenizer

    from uptake.data import ChatFormat

    try:
        return ChatFormat.of(AutoTokenizer.from_pretrained(tokenizer))
    except (OSError, ValueError) as error:
        raise InputError(f"{tokenizer}: no tokenizer", field="--tokenizer", allowed="a folder or Hub name") from error


def _check_judge(spec: str | None, editor: str, sets: list[str] | None) -> None:
    """Refuse what is wrong with the judge before the editor's model is loaded."""
    from uptake.judge.scorers import check_contestant

    if sets and spec not in _KEPT:
        raise InputError("not used with this judge", field="--judge-set", allowed="with --judge server or person")
    if spec is None and editor != "person":
        raise InputError("no judge", field="--judge", allowed="who must prefer the edit, or none: take edits unseen")
    if spec is not None and spec not in (*_KEPT, "none"):
        check_contestant(spec)


def _annotator(
    spec: str | None, model: str | None, sets: list[str] | None, target: Path, loading: dict[str, Any]
) -> Any:
    from uptake.annotators.from_reward import FromReward
    from uptake.annotators.llm import LLMJudge
    from uptake.judge.annotators import annotator
    from uptake.judge.scorers import contestant

    if spec in _KEPT:
        answers = str(target.with_name(f"{target.name}.judge.sqlite"))
        return annotator({spec: {_KEPT[spec]: answers, **options_of(sets)}})
    if spec in (None, "none"):
        return None
    found: Any = contestant(spec, model=model, **loading)
    return found if isinstance(found, LLMJudge) else FromReward(found)


def _print_summary(summary: Any, target: Path) -> None:
    stats = summary.stats
    table = Table("edits", "rows")
    for status in ("accepted", "no_edit", "demoted", "rejected"):
        table.add_row(status, str(stats.statuses.get(status, 0)))
    out.print(table)
    for reason, count in stats.reasons.items():
        say(f"{reason}: {count}")
    taken = stats.accepted
    say(f"accepted {taken.rate:.1%} (95 % interval {taken.low:.1%} to {taken.high:.1%}, n {taken.n})")
    if any(stats.ratios):
        say(f"edit ratio in tenths, 0 to 1: {' '.join(map(str, stats.ratios))}")
    if stats.operations:
        shares = ", ".join(f"{op} {share:.0%}" for op, share in stats.operations.items())
        say(f"changes: {shares}; |e|/|y| {stats.length:.2f}; ambiguous alignments {stats.ambiguous.rate:.1%}")
    if stats.judge and stats.judge.agreement:
        say(f"the judge agrees with itself in both orders in {stats.judge.agreement.rate:.1%}")
    say(f"{stats.tokens} tokens, {summary.seconds:.1f} s" + (f", cost {stats.cost:.4f}" if stats.cost else ""))
    say(f"{summary.written} rows -> {target}" + (f"; {summary.dropped} could not be read" if summary.dropped else ""))
