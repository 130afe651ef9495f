"""`uptake edit`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from uptake.cli import options as cli
from uptake.errors import InputError, ModelError
from uptake.types import MAX_EDIT_RATIO, NO_EDIT_WEIGHT

PairsArgument = Annotated[
    str, typer.Argument(metavar="PAIRS", help="Preferences, whose rejected response is edited, or single responses.")
]
Who = Annotated[str, typer.Option(help="Who edits: model, server, oracle or person.")]
EditorSets = Annotated[
    list[str] | None, typer.Option("--editor-set", help="One setting of the editor: prompt=with-better.")
]
Ratio = Annotated[float, typer.Option(help="The largest share of units that an edit may change.")]
Shortest = Annotated[float, typer.Option(help="Least length of an edit over that of the response.")]
Longest = Annotated[float, typer.Option(help="Largest length of an edit over that of the response.")]
Moved = Annotated[int, typer.Option(help="So many units in a row that only moved make the edit a move.")]
Tokenizer = Annotated[str | None, typer.Option(help="Count in tokens of this model. Default: words and marks.")]
Weight = Annotated[float, typer.Option(help="What an unchanged response counts beside an edited one.")]

# Who is paid or takes time, and the setting that names the file of the answers.
_STORES = {"server": "cache", "person": "answers"}


@cli.app.command()
def edit(
    source: PairsArgument,
    *,
    target: Annotated[Path, typer.Option("--out", help="Output: .jsonl[.gz], .csv or .parquet.")],
    editor: Who,
    editor_sets: EditorSets = None,
    judge: cli.JudgeOption = None,
    judge_sets: cli.JudgeSets = None,
    models: cli.ModelsOption = None,
    max_edit_ratio: Ratio = MAX_EDIT_RATIO,
    min_length: Shortest = 0.5,
    max_length: Longest = 2.0,
    block: Moved = 8,
    tokenizer: Tokenizer = None,
    no_edit_weight: Weight = NO_EDIT_WEIGHT,
    columns: cli.ColumnsOption = None,
    limit: cli.LimitOption = None,
    device: cli.Device = "auto",
    dtype: cli.Dtype = "auto",
    drop_bad: cli.DropBad = False,
    overwrite: cli.Overwrite = False,
) -> None:
    """Make the worse response better with as few changes as possible, so that one sees which words were wrong.

    Example: `uptake edit pairs.jsonl --editor model --judge model --model ./large --out edits.jsonl`
    """
    from uptake.data.resumable import journal_path
    from uptake.edits.editors import editor as find
    from uptake.edits.rules import Rules
    from uptake.edits.units import Tokens, Words
    from uptake.tasks.edit import CHUNK, edit_file, read_drafts

    editor = editor.replace("-", "_")
    spec = _judge(judge, judge_sets, editor)
    cli.check_output(target, overwrite=overwrite, resumes=journal_path(target))
    drafts = read_drafts(source, target, limit=limit, columns=cli.columns_of(columns), drop_bad=drop_bad)
    units = Words() if tokenizer is None else Tokens(_chat(tokenizer))
    rules = Rules(max_edit_ratio, min_length, max_length, block, units)
    settings = {**_files(editor, target), **cli.options_of(editor_sets)}
    names = ("editor",) if editor == "model" else ()
    specs, prefix = [] if spec is None else [spec], f"{target.name}."
    resources = cli.resources_of(specs, models, target.parent, prefix, names, device=device, dtype=dtype)
    by = find({editor: settings}, model=resources.models.get("editor"), rules=rules)
    annotator = None if spec is None else spec.build(resources)
    # A person gets all responses at once: one page, one count.
    chunk = 1 << 30 if editor == "person" else CHUNK
    options: dict[str, Any] = {"no_edit_weight": no_edit_weight, "overwrite": overwrite, "chunk": chunk}
    summary = edit_file(drafts, by, target, annotator=annotator, rules=rules, **options)
    _print_summary(summary, target)


def _files(editor: str, target: Path) -> dict[str, str]:
    """Answers that somebody was paid or asked for are kept beside the output, unless a setting says otherwise."""
    return {_STORES[editor]: str(target.with_name(f"{target.name}.{editor}.sqlite"))} if editor in _STORES else {}


def _chat(tokenizer: str) -> Any:
    from uptake.data import ChatFormat
    from uptake.models.load import load_tokenizer

    try:
        return ChatFormat.of(load_tokenizer(tokenizer))
    except ModelError as error:
        raise InputError(str(error), field="--tokenizer", allowed="a folder or Hub name") from error


def _judge(name: str | None, sets: list[str] | None, editor: str) -> Any:
    """The spec of who judges the edits; None where nobody does."""
    from uptake.judge.registry import annotator_spec

    if name is None and editor != "person":
        raise InputError("no judge", field="--judge", allowed="who must prefer the edit, or none: take edits unseen")
    found = cli.choice(None if name == "none" else name, sets, "judge")
    return None if found is None else annotator_spec(found)


def _print_summary(summary: Any, target: Path) -> None:
    from uptake.evaluate.annotator import position_bias_warning

    stats = summary.stats
    table = Table("edits", "rows")
    for status in ("accepted", "no_edit", "demoted", "rejected"):
        table.add_row(status, str(stats.statuses.get(status, 0)))
    cli.out.print(table)
    for reason, count in stats.reasons.items():
        cli.say(f"{reason}: {count}")
    taken = stats.accepted
    cli.say(f"accepted {taken.rate:.1%} (95 % interval {taken.low:.1%} to {taken.high:.1%}, n {taken.n})")
    if any(stats.ratios):
        cli.say(f"edit ratio in tenths, 0 to 1: {' '.join(map(str, stats.ratios))}")
    if stats.operations:
        shares = ", ".join(f"{op} {share:.0%}" for op, share in stats.operations.items())
        cli.say(f"changes: {shares}; |e|/|y| {stats.length:.2f}; ambiguous alignments {stats.ambiguous.rate:.1%}")
    if stats.judge and stats.judge.agreement:
        cli.say(f"the judge agrees with itself in both orders in {stats.judge.agreement.rate:.1%}")
    if stats.judge and (warning := position_bias_warning(stats.judge)):
        cli.say(warning)
    cli.say(f"{stats.tokens} tokens, {summary.seconds:.1f} s" + (f", cost {stats.cost:.4f}" if stats.cost else ""))
    cli.say(f"{summary.written} rows -> {target}")
