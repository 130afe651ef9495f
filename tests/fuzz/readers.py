"""The readers of Uptake, each with inputs that are right: what the fuzzer damages, and what it has read.

A reader takes a source of random numbers and an empty folder. It ends, or raises an UptakeError: anything else is a
fault.
"""

import csv
import gzip
import io
import json
import os
import random
import shutil
from collections.abc import Callable
from functools import cache
from itertools import islice
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import mutate
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter
from test_layouts import CASES
from tiny import FOLLOWUPS, pair_records, saved, tiny_llama, tiny_tokenizer, tiny_world, write_jsonl

from uptake import methods
from uptake.annotators.question import Instructions
from uptake.cli import options as cli
from uptake.data import ChatFormat, RowStream, read, to_record
from uptake.data.cache import Cache
from uptake.data.chat_log import read_log
from uptake.data.convert import response_turns
from uptake.data.resumable import HEADER, ResultJournal
from uptake.data.write import FORMATS, json_line
from uptake.datasets import KINDS, folder_of, names, offers, read_set
from uptake.edits.prompt import EditPrompt
from uptake.follow_up.set import FollowUpSet
from uptake.judge.registry import annotator_spec, reward_spec
from uptake.models import add_lora, load
from uptake.report import write_report
from uptake.support.method_files import read_method
from uptake.tasks.edit import read_drafts
from uptake.tasks.judge import read_pairs
from uptake.tasks.memory_need import memory_size
from uptake.tasks.run_config import RunConfig, recipe_of, with_models
from uptake.tasks.score import ResponseScore, read_responses
from uptake.town import CHAT_TEMPLATE
from uptake.train.loop import Options, run
from uptake.types import Prompt, Row

Reader = Callable[[random.Random, Path], None]

DATA = Path(os.environ.get("UPTAKE_DATA", Path(__file__).parents[3] / "shared" / "data"))

_USER, _SAID = {"role": "user", "content": "when ?"}, {"role": "assistant", "content": "at eight ."}
_CALL = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "open", "arguments": {"a": 1}}}]}
_RESULT = {"role": "tool", "content": "eight", "name": "open", "tool_call_id": "1"}
_TOOLS = [{"type": "function", "function": {"name": "open", "parameters": {"type": "object", "properties": {}}}}]
_IDS = {"tokenizer": "3f2a90c1d4e5b677", "prompt": [1, 2], "chosen": [3], "rejected": [4]}
ROWS: list[dict[str, Any]] = [
    {"prompt": "when ?", "chosen": "at eight .", "rejected": "it .", "margin": 0.5, "token_ids": _IDS, "source": "x"},
    {"chosen": [_USER, _SAID], "rejected": [_USER, {**_SAID, "content": "it ."}], "score": 1.5},
    {"prompt": [{"role": "system", "content": "be kind"}, _USER], "completion": [_SAID], "label": True},
    {"messages": [_USER, _SAID, _USER, {**_SAID, "reasoning_content": "a", "weight": 0}], "thumbs": [None, 1, None, 0]},
    {"messages": [_USER, _CALL, _RESULT, _SAID], "tools": _TOOLS, "chat_template_kwargs": {"enable_thinking": True}},
    {"messages": [{"from": "human", "value": "when ?"}, {"from": "gpt", "value": "at eight ."}], "system": "be kind"},
    {"text": "\n\nHuman: when ?\n\nAssistant: at eight .\n\nHuman: thanks .\n\nAssistant: it ."},
    {"text": ["\n\nHuman: when ?\n\nAssistant: at .", "\n\nHuman: when ?\n\nAssistant: it ."], "score": [1, 0]},
    {"prompt": "when ?", "completion": "at eight .", "spans": [{"start": 0, "end": 2, "label": "bad", "note": "no"}]},
    {"prompt": "when ?", "completion": "at .", "edited": "at eight .", "finished": True, "group": "a", "weight": 0.5},
    {"prompt": "when ?", "responses": ["at eight .", "it ."], "thumbs": 1},
    {"prompt": "[{'role': 'user', 'content': 'when ?'}]", "completion": '[{"role": "assistant", "content": "it ."}]'},
]
# Of other tools too.
ANY_ROWS = [*ROWS, *(given for given, _ in CASES.values())]


def _records(rng: random.Random, more: list[Any] | None = None) -> list[dict[str, Any]]:
    """A few rows of one shape, of which one or two are damaged."""
    shape = rng.choice(ANY_ROWS if rng.random() < 0.5 else ROWS)
    rows: list[Any] = [dict(shape) for _ in range(rng.randint(1, 3))]
    for _ in range(rng.choice([1, 1, 2])):
        at = rng.randrange(len(rows))
        damaged = mutate.value(rng, rows[at], more)
        rows[at] = damaged if isinstance(damaged, dict) or rng.random() < 0.2 else {**shape, rng.choice("ab"): damaged}
    return rows


def _spelled(value: Any) -> str:
    return json.dumps(value, default=str)


def _use(rng: random.Random, path: Path, folder: Path) -> None:
    """Read rows as one of the commands does, and do with them what comes next."""
    if rng.random() < 0.05:  # a folder, or a pattern
        path = rng.choice([folder, folder / "*", folder / "r?ws*"])
    out, drop = folder / f"out{rng.choice(FORMATS)}", rng.random() < 0.5
    kind = rng.choice(["read", "stream", "score", "judge", "edit", "logs", "ids"])
    columns = {"messages": "conversations"} if rng.random() < 0.1 else None
    if kind == "score":
        _write(read_responses(path, out, drop_bad=drop, columns=columns).rows)
    elif kind == "judge":
        _write(read_pairs(path, out, drop_bad=drop, columns=columns).rows)
    elif kind == "edit":
        read_drafts(path, out, drop_bad=drop, columns=columns)
    elif kind == "logs":
        read_log(path, ratings=rng.choice([None, "thumbs", "score"]), drop_bad=drop, columns=columns)
    elif kind == "stream":
        stream = RowStream(path)
        assert sum(1 for _ in stream) == len(stream)
    else:
        rows = read(path, skipped=[] if drop else None, columns=columns)
        if kind == "ids":
            for row in rows:
                _to_ids(row)


def _write(rows: Any) -> None:
    """Once they are read, rows that go to JSON lines can be written: this is what reading has promised."""
    for row in rows:
        to_record(row)


def _to_ids(row: Row) -> None:
    chat = _chat()
    if isinstance(row, Prompt):
        chat.prompt_ids(row.turns, where=row.where)
        return
    for response in response_turns(row):
        chat.response_ids(row.prompt.turns, response, where=row.prompt.where)


@cache
def _chat() -> ChatFormat:
    return ChatFormat.of(tiny_tokenizer())


def jsonl(rng: random.Random, folder: Path) -> None:
    ending = rng.choice([".jsonl", ".jsonl", ".ndjson", ".json", ".jsonl.gz", ".jsonl.zst"])
    data = "".join(f"{_spelled(each)}\n" for each in _records(rng)).encode("utf-8", "surrogatepass")
    data = mutate.data(rng, data) if rng.random() < 0.3 else data
    packed = _packed(data, ending)
    path = folder / f"rows{ending}"
    path.write_bytes(mutate.data(rng, packed) if rng.random() < 0.2 else packed)
    _use(rng, path, folder)


def _packed(data: bytes, ending: str) -> bytes:
    if ending.endswith(".gz"):
        return gzip.compress(data)
    return pa.compress(data, "zstd", asbytes=True) if ending.endswith(".zst") else data


def json_list(rng: random.Random, folder: Path) -> None:
    text = json.dumps(_records(rng), indent=rng.choice([None, 1]), default=str).encode()
    path = folder / "rows.json"
    path.write_bytes(mutate.data(rng, text) if rng.random() < 0.5 else text)
    _use(rng, path, folder)


def csv_table(rng: random.Random, folder: Path) -> None:
    rows, text = [each for each in _records(rng) if isinstance(each, dict)], io.StringIO()
    header = list(dict.fromkeys(name for row in rows for name in row))
    ending = rng.choice([".csv", ".csv", ".tsv"])
    lines = csv.writer(text, delimiter="\t" if ending == ".tsv" else ",")
    lines.writerow(header)
    for row in rows:
        cells = [row.get(name, "") for name in header]
        lines.writerow([each if isinstance(each, str) else _spelled(each) for each in cells])
    data = text.getvalue().encode("utf-8", "surrogatepass")
    path = folder / f"rows{ending}"
    path.write_bytes(mutate.data(rng, data) if rng.random() < 0.5 else data)
    _use(rng, path, folder)


def parquet(rng: random.Random, folder: Path) -> None:
    rows = [each for each in _records(rng, mutate.CELLS) if isinstance(each, dict)]
    columns: dict[str, Any] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        columns[name] = _column([row.get(name) for row in rows])
    odd = {
        "far": lambda count: pa.array([10**17] * count, pa.timestamp("us")),
        "bad": lambda count: pa.StringArray.from_buffers(
            count, pa.py_buffer(bytes([0, 0, 0, 0] + [1, 0, 0, 0] * count)), pa.py_buffer(b"\xff")
        ),
        "when": lambda count: pa.array([1] * count, pa.timestamp("ns", "UTC")),
        "day": lambda count: pa.array([2**30] * count, pa.date32()),
        "long": lambda count: pa.array([5] * count, pa.duration("s")),
    }
    if rows and rng.random() < 0.3:
        name = rng.choice(list(odd))
        columns[rng.choice([name, "prompt", "completion"])] = odd[name](len(rows))
    path, table = folder / rng.choice(["rows.parquet", "rows.parquet", "rows.arrow"]), pa.table(columns)
    try:
        with pa.ipc.new_stream(path, table.schema) as stream:
            stream.write_table(table)
    except pa.ArrowException:  # a stream nests less than a table
        path = folder / "rows.parquet"
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    if rng.random() < 0.3:
        path.write_bytes(mutate.data(rng, path.read_bytes()))
    _use(rng, path, folder)


def _column(cells: list[Any]) -> pa.Array:
    """Cells as Parquet holds them, as texts where it cannot."""
    try:
        column = pa.array(cells)
        pq.write_table(pa.table({"a": column}), pa.BufferOutputStream())
        return column
    except (pa.ArrowException, TypeError, ValueError, OverflowError, RecursionError):
        return pa.array([repr(each)[:99].encode("utf-8", "replace").decode() for each in cells])


_SET_JSON = {
    "name": "tiny",
    "version": 1,
    "language": "en",
    "categories": {"a": {"weight": 2.0, "positive": ["thanks .", {"text": "yes", "weight": 0.5}], "negative": ["no"]}},
    "calibration": {"temperature": 0.3, "low": -1.0, "high": 2.0, "precision": 0.9},
}


def follow_up_set(rng: random.Random, folder: Path) -> None:
    path = folder / rng.choice(["set.yaml", "set.json"])
    if path.suffix == ".json":
        path.write_bytes(json.dumps(mutate.value(rng, _SET_JSON), default=str).encode())
    else:
        path.write_bytes(mutate.text(rng, FOLLOWUPS))
    found = FollowUpSet.load(path)
    assert found.fingerprint
    found.save(folder / "again.yaml")


_CONFIG = """method: dpo
policy: ./model
data: pairs.jsonl
models:
  reference: ./model
options:
  beta: 0.2
  lr: 0.0001
  betas: [0.9, 0.99]
limit: 3
lora: 0
seed: 1
"""


def run_config(rng: random.Random, folder: Path) -> None:
    path = folder / "run.yaml"
    path.write_bytes(mutate.text(rng, _CONFIG))
    config = RunConfig.of(path)
    with_models(config, recipe_of(config, path), None, path)
    assert str(config)


def options(rng: random.Random, folder: Path) -> None:
    """Settings as words: of a method, a reward, a judge."""
    name = rng.choice(methods.names())
    kind = rng.choice(["method", "reward", "judge", "models", "memory"])
    words = [rng.choice(mutate.WORDS) for _ in range(2)]
    if kind == "method":
        fields = list(methods.fields_of(name, {}))
        str(methods.build(name, cli.options_of([f"{rng.choice(fields)}={words[0]}"])))
    elif kind == "models":
        cli.models_of(words)
        cli.only_model(words[0], "judge")
    elif kind == "memory":
        memory_size(words[0])
    else:
        known = ["follow_up", "length", "oracle", "server", "model", "person", "direct", "likelihood", "token_reward:x"]
        settings = ["reduction", "followups", "instructions", "url", "noise", "port", "seed", "cache", "model", "x"]
        chosen = cli.choice(
            rng.choice([*known, words[0], f"{{{rng.choice(known)}: {words[0]}}}"]),
            [f"{rng.choice(settings)}={words[1]}"] if rng.random() < 0.7 else None,
            kind,
        )
        str(reward_spec(chosen) if kind == "reward" else annotator_spec(chosen))


def texts(rng: random.Random, folder: Path) -> None:
    """Instructions of a judge, the prompt of an editor, a method's file."""
    path, kind = (
        folder / rng.choice(["own.txt", "own.py"]),
        rng.choice([Instructions.load, EditPrompt.load, read_method]),
    )
    source = Path(methods.__file__).with_name("dpo.py").read_text()
    given = {Instructions.load: _INSTRUCTIONS, EditPrompt.load: _PROMPT, read_method: source}[kind]
    path.write_bytes(mutate.text(rng, given))
    kind(path)


_INSTRUCTIONS = next(Path(methods.__file__).parents[1].glob("annotators/instructions/*.txt")).read_text()
_PROMPT = next(Path(methods.__file__).parents[1].glob("edits/prompts/*.txt")).read_text()
_SCORES = TypeAdapter(list[ResponseScore])


def journal(rng: random.Random, folder: Path) -> None:
    """A journal of scores, as a killed call leaves it and a disk damages it."""
    keys = [f"{number:032x}" for number in range(3)]
    line = [json_line({"row": key, "left": 2 - n, "result": [{"reward": 0.5}]}) for n, key in enumerate(keys)]
    path = folder / "out.jsonl.journal.jsonl"
    path.write_bytes(mutate.data(rng, HEADER + b"".join(line)))
    with ResultJournal(path) as found:
        found.get(keys, _SCORES)
        found.put({keys[0]: [{"reward": 1.0}]})
        assert found.get(keys[:1], _SCORES) == {keys[0]: [ResponseScore(1.0)]}


def answers(rng: random.Random, folder: Path) -> None:
    """A cache of answers, damaged; what was put in can be read or is said to be lost."""
    path = folder / "cache.sqlite"
    cache_ = Cache(path)
    cache_.put({str(number): {"reward": number} for number in range(20)})
    close = getattr(cache_, "close", None) or cache_._base.close
    close()
    path.write_bytes(mutate.data(rng, path.read_bytes()))
    again = Cache(path)
    try:
        again.get(map(str, range(20)), TypeAdapter(dict[str, int]))
        again.put({"new": {"reward": 1}})
    finally:
        (getattr(again, "close", None) or again._base.close)()


@cache
def _scratch() -> Path:
    return Path(mkdtemp(prefix="uptake-fuzz-"))


_TINY = {"lr": 0.01, "batch_size": 2, "warmup": 0}
_RECIPES = {
    "dpo": _TINY | {"epochs": 2},
    "follow_up_likelihood": _TINY | {"n": 2, "max_new_tokens": 4, "rounds": 1},
}


@cache
def _finished(method: str) -> Path:
    """A run of the method on two rows."""
    folder = _scratch() / method
    run(methods.build(method, _RECIPES[method]), tiny_world(folder, pair_records(2)), Options(save_every=1))
    return folder


def _damaged(rng: random.Random, source: Path, folder: Path, ending: str = "") -> Path:
    """A copy of a folder in which one file is damaged, emptied or gone."""
    target = folder / "run"
    shutil.copytree(source, target)
    files = sorted(path for path in target.rglob("*") if path.is_file())
    path = rng.choice([each for each in files if each.name.endswith(ending)] or files)
    if path.suffix in (".json", ".jsonl") and rng.random() < 0.6:
        lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
        at = rng.randrange(len(lines)) if lines else 0
        if lines:
            lines[at] = json.dumps(mutate.value(rng, json.loads(lines[at])), default=str)
        path.write_text("".join(f"{line}\n" for line in lines), "utf-8", "surrogatepass")
    elif rng.random() < 0.1:
        path.unlink()
    else:
        path.write_bytes(mutate.data(rng, path.read_bytes()))
    return target


def run_folder(rng: random.Random, folder: Path) -> None:
    """A damaged run folder that is resumed."""
    method = rng.choice(list(_RECIPES))
    target = _damaged(rng, _finished(method), folder)
    run(methods.build(method, _RECIPES[method]), tiny_world(target, pair_records(2)), Options(resume=True))


def report(rng: random.Random, folder: Path) -> None:
    """A damaged run folder whose story is told."""
    write_report(_damaged(rng, _finished(rng.choice(list(_RECIPES))), folder, rng.choice([".json", ".jsonl", ".yaml"])))


_RAISING = [
    *(
        "{{ 1 / 0 }}",
        "{{ messages[9].x.y }}",
        "{{ range(10**12) | list }}",
        "{% for a in range(9) %}",
        "{{ 'a' | zz }}",
    ),
    *(
        "{{ raise_exception('no') }}",
        "{{ messages | tojson }}",
        "{{ messages + 1 }}",
        "{{ messages[0]['content'] * 3 }}",
    ),
    *("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "", " ", "{{ eos_token }}", "{# #}", "{{ bos_token + 1 }}"),
]


def template(rng: random.Random, folder: Path) -> None:
    """A chat template that is damaged, or a program that fails."""
    given: Any = mutate.text(rng, CHAT_TEMPLATE).decode("utf-8", "replace")
    if rng.random() < 0.4:
        line = rng.choice(_RAISING)
        given = rng.choice([line, CHAT_TEMPLATE + line, line + CHAT_TEMPLATE, {"rag": line, "tools": line}])
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = given
    chat = ChatFormat.of(tokenizer)
    rows = read(write_jsonl(folder / "rows.jsonl", [rng.choice(ROWS[:11])]))
    for row in rows:
        if isinstance(row, Prompt):
            chat.prompt_ids(row.turns, where=row.where)
        else:
            for response in response_turns(row):
                chat.response_ids(row.prompt.turns, response, where=row.prompt.where)


@cache
def _model(adapter: bool = False) -> Path:
    folder = _scratch() / ("adapter" if adapter else "model")
    if not adapter:
        return saved(tiny_llama(), folder)
    lm = add_lora(load(_model()), rank=2)
    lm.model.save_pretrained(folder)
    return folder


def model_folder(rng: random.Random, folder: Path) -> None:
    """A folder of a model or an adapter with one damaged file."""
    path = _damaged(
        rng, _model(rng.random() < 0.3), folder, rng.choice([".json", ".json", ".jinja", ".safetensors", ""])
    )
    chat = ChatFormat.of(load(path))
    chat.prompt_ids(read(write_jsonl(folder / "rows.jsonl", [{"prompt": "when ?"}]))[0].turns)


@cache
def _sets() -> list[tuple[str, str]]:
    return [(name, kind) for name in names() for kind in KINDS if kind in offers(name) and folder_of(name, DATA)]


@cache
def _first_rows(name: str) -> Path:
    """The first rows of every file of a data set, or its beginning."""
    source = folder_of(name, DATA)
    assert source is not None
    target = _scratch() / "data" / source.name
    for path in sorted(each for each in source.rglob("*") if each.is_file()):
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.name.endswith((".jsonl", ".jsonl.gz")):
            with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
                lines = b"".join(islice(file, 3))
            copy.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)
        elif path.suffix == ".parquet":
            pq.write_table(pq.read_table(path).slice(0, 3), copy)
        elif path.stat().st_size < 200_000:
            shutil.copy(path, copy)
    return target


def data_set(rng: random.Random, folder: Path) -> None:
    """A data set of others, of which one row is damaged."""
    name, kind = rng.choice(_sets())
    source = _first_rows(name)
    target = folder / source.name
    shutil.copytree(source, target)
    files = sorted(path for path in target.rglob("*") if path.name.endswith((".jsonl", ".jsonl.gz", ".json", ".csv")))
    if files:
        path = rng.choice(files)
        packed = path.suffix == ".gz"
        data = gzip.decompress(path.read_bytes()) if packed else path.read_bytes()
        lines = data.splitlines()
        if lines and ".jsonl" in path.name and rng.random() < 0.8:
            at = rng.randrange(len(lines))
            lines[at] = json.dumps(mutate.value(rng, json.loads(lines[at])), default=str).encode()
            data = b"".join(line + b"\n" for line in lines)
        else:
            data = mutate.data(rng, data)
        path.write_bytes(gzip.compress(data) if packed else data)
    for _ in read_set(name, kind, folder):
        pass


READERS: dict[str, Reader] = {
    "jsonl": jsonl,
    "json": json_list,
    "csv": csv_table,
    "parquet": parquet,
    "follow-up set": follow_up_set,
    "run config": run_config,
    "options": options,
    "texts": texts,
    "journal": journal,
    "answers": answers,
    "template": template,
    "report": report,
    "run folder": run_folder,
    "model folder": model_folder,
    **({"data set": data_set} if DATA.is_dir() else {}),
}
# How many of 100 inputs a reader gets: by how many kinds of damage it may meet, and what one costs.
SHARES = {
    **{"jsonl": 24, "json": 9, "csv": 12, "parquet": 12, "follow-up set": 7, "run config": 7, "options": 8, "texts": 4},
    **{"journal": 4, "answers": 3, "template": 4, "report": 1, "run folder": 1, "model folder": 1, "data set": 3},
}
