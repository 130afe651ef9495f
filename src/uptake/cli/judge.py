"""`uptake judge`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from uptake.cli.options import Device, DropBad, Dtype, Limit, Overwrite, app, check_output, out, say
from uptake.errors import InputError

Pairs = Annotated[
    str, typer.Argument(metavar="PAIRS", help="Preferences, or prompts with two texts in the column responses.")
]
Target = Annotated[Path, typer.Option("--out", help="Output: .jsonl[.gz], .csv or .parquet.")]
Judge = Annotated[str | None, typer.Option(help="The judge: Transformers folder, PEFT folder or Hub name.")]
Address = Annotated[str | None, typer.Option(help="Or an OpenAI-compatible server: http://localhost:8000/v1.")]
Name = Annotated[str | None, typer.Option(help="The server's name of the judge.")]
Asking = Annotated[str, typer.Option(help="A preset's name, or a text file.")]
Average = Annotated[str, typer.Option(help="prob or logit: what is averaged over both orders.")]
MinShare = Annotated[
    float | None, typer.Option(help="Share of the probability that 1 and 2 must hold for --judge-model. Default: 0.5.")
]
Answers = Annotated[Path | None, typer.Option(help="File of the server's answers. Default: beside the output.")]
Variable = Annotated[
    str | None, typer.Option(help="The environment variable that holds the server's key. Default: no key.")
]
InputPrice = Annotated[float | None, typer.Option(help="Price per million tokens that the server reads.")]
OutputPrice = Annotated[float | None, typer.Option(help="Price per million tokens that it writes.")]
Concurrency = Annotated[int | None, typer.Option(help="Questions open at a time. Default: 8.")]
Timeout = Annotated[float | None, typer.Option(help="Seconds that an answer may take. Default: 60.")]
Retries = Annotated[int | None, typer.Option(help="How often a failed request is sent again. Default: 10.")]
MaxTokens = Annotated[int | None, typer.Option(help="Tokens of an answer. Default: 8.")]


@app.command()
def judge(
    source: Pairs,
    *,
    target: Target,
    judge_model: Judge = None,
    server: Address = None,
    model_name: Name = None,
    instructions: Asking = "helpfulness",
    order_average: Average = "prob",
    min_share: MinShare = None,
    cache: Answers = None,
    key_variable: Variable = None,
    input_price: InputPrice = None,
    output_price: OutputPrice = None,
    concurrency: Concurrency = None,
    timeout: Timeout = None,
    retries: Retries = None,
    max_tokens: MaxTokens = None,
    limit: Limit = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    drop_bad: DropBad = False,
    overwrite: Overwrite = False,
) -> None:
    """Let a language model say which of two responses is better.

    Example: `uptake judge pairs.jsonl --judge-model ./my-model --out labelled.jsonl`
    """
    from uptake.data.resumable import journal_path
    from uptake.tasks.judge import judge_file, read_pairs

    check_output(target, overwrite=overwrite, resumes=journal_path(target))
    pairs = read_pairs(source, target, limit=limit, drop_bad=drop_bad)
    serving = {
        "server": server,
        "model_name": model_name,
        "cache": cache,
        "key_variable": key_variable,
        "input_price": input_price,
        "output_price": output_price,
        "concurrency": concurrency,
        "timeout": timeout,
        "retries": retries,
        "max_tokens": max_tokens,
    }
    given = {name: value for name, value in serving.items() if value is not None}
    asking = {"instructions": instructions, "order_average": order_average}
    share = {} if min_share is None else {"min_share": min_share}
    if judge_model is None:
        annotator = _served(given, share, target, asking)
    else:
        annotator = _in_process(judge_model, given, {**asking, **share, "device": device, "dtype": dtype})
    summary = judge_file(pairs, annotator, target, overwrite=overwrite, drop_bad=drop_bad)
    _print_stats(summary.stats, summary.accuracy)
    say(f"{summary.rows} rows -> {target}; the second response is preferred in {summary.swapped}")
    if summary.dropped:
        say(f"{summary.dropped} rows were left out: broken, or without a valid verdict")


def _served(given: dict[str, Any], share: dict[str, float], target: Path, asking: dict[str, Any]) -> Any:
    from uptake.annotators.server import ServerJudge

    if share:
        raise InputError("not used with --server", field="--min-share", allowed="with --judge-model")
    if not {"server", "model_name"} <= given.keys():
        raise InputError("no judge", allowed="--judge-model, or --server with --model-name")
    answers = given.pop("cache", target.with_name(f"{target.name}.answers.sqlite"))
    return ServerJudge(url=given.pop("server"), model=given.pop("model_name"), cache=str(answers), **given, **asking)


def _in_process(model: str, given: dict[str, Any], options: dict[str, Any]) -> Any:
    from uptake.annotators.llm import LLMJudge

    if given:
        option = f"--{next(iter(given)).replace('_', '-')}"
        raise InputError("not used with --judge-model", field=option, allowed="with --server")
    annotator = LLMJudge.from_pretrained(model, **options)
    if annotator.chat.plain:
        say(f"{model} brings no chat template; it reads instructions and cue as one text")
    return annotator


def _print_stats(stats: Any, accuracy: Any) -> None:
    table = Table("verdicts", "share", "95 % interval", "n")
    shares = {
        "invalid": stats.invalid,
        "both orders agree": stats.agreement,
        "unsure: p within 0.05 of 1/2": stats.unsure,
        "longer response preferred": stats.longer_wins,
        "as chosen in the file": accuracy and accuracy.plain,
    }
    for name, share in shares.items():
        if share is not None:
            table.add_row(name, f"{share.rate:.1%}", f"{share.low:.1%} to {share.high:.1%}", str(share.n))
    out.print(table)
    for reason, count in stats.reasons.items():
        say(f"invalid: {reason} ({count})")
    if stats.position_bias is not None:
        say(f"position bias {stats.position_bias:+.3f}, mean gap between orders {stats.order_gap:.3f}")
    say(f"{stats.tokens} tokens" + (f", cost {stats.cost:.4f}" if stats.cost else ""))
