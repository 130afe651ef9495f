"""What the pages show with models of one's own, run as written with a real one (slow): UPTAKE_SMOLLM2 names it.

Rows are few and short, and a run that would take hours is cut by a few more settings. What this model is refused, as
a judge that goes by the place of a response, must be refused with its reason, and runs in the way that is left.
"""

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from tiny import read_jsonl, write_jsonl
from tiny_cli import Cli

ROOT = Path(__file__).parent.parent
FOLDER = Path(os.environ.get("UPTAKE_SMOLLM2", "nowhere"))
PAGES = (ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")))
BLOCK = re.compile(
    r"<!-- not run: the (?:model|models|logs) (?:is|are) yours -->\n```\w+\n(.*?)^```$", re.DOTALL | re.M
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FOLDER.is_dir(), reason="UPTAKE_SMOLLM2 names no folder"),
]

MODELS = ("model", "judge", "editor", "other", "my-model", "another", "1b", "7b")
ROUND = ("--set=max_new_tokens=8", "--set=prompts=2", "--set=rounds=1", "--set=epochs=1", "--set=n=2")
SHORTER: Mapping[str, Sequence[str]] = {
    "oaif": ("--set=max_new_tokens=8", "--set=steps=1", "--set=batch_size=2", "--lora=8"),
    "mrpo": ("--lora=8",),
    "ppo": (*ROUND, "--set=critic=shared", "--lora=8"),
    "fine_grained_ppo": (*ROUND, "--set=critic=shared", "--lora=8"),
}
# By the word that names what is refused: why, and what is left to do.
REFUSED: Mapping[str, tuple[str, Sequence[str]]] = {
    "oaif": ("goes by the place of a response", ("--set=allow_position_bias=true",)),
    "edit": ("no edit can be written", ("--judge", "none")),
}
QUESTIONS = ("Write one short sentence about the sea.", "What is a good name for a cat?")
REACTIONS = ("Thank you, that helps.", "That is not what I asked.")


def blocks() -> list[tuple[str, list[list[str]]]]:
    """Page and number of each block, with its calls."""
    found = []
    for page in PAGES:
        for number, text in enumerate(BLOCK.findall(page.read_text())):
            lines = [line.removeprefix("$ ") for line in text.replace("\\\n", "").splitlines() if line]
            calls = [shlex.split(line, comments=True)[1:] for line in lines]
            found.append((f"{page.relative_to(ROOT)}, {number}", calls))
    return found


@pytest.fixture
def rows(uptake: Cli) -> Cli:
    """A folder with everything that the pages name, in small."""
    for name in MODELS:
        Path(name).symlink_to(FOLDER)
    pairs = read_jsonl(ROOT / "examples" / "human_pairs.jsonl")[:3]
    chats = [
        [{"role": "user", "content": pair["prompt"]}, {"role": "assistant", "content": pair["chosen"]}]
        for pair in pairs
    ]
    said = [{"role": "user", "content": REACTIONS[number % 2]} for number in range(12)]
    prompts = [{"prompt": question} for question in QUESTIONS]
    votes = {f"annotator{who}": 1 for who in (1, 2, 3)}
    compared = [
        {"instruction": pair["prompt"], "response1": pair["chosen"], "response2": pair["rejected"]} for pair in pairs
    ]
    files = {
        "pairs": pairs,
        "chats": [{"messages": turns} for turns in chats],
        "answered": [{"messages": turns} for turns in chats],
        "logs": [{"messages": [*chats[number % 3], each]} for number, each in enumerate(said)],
        "prompts": prompts,
        "heldout": prompts,
        "edits": [{"prompt": "Write a sentence.", "completion": "He go home.", "edited": "He goes home."}],
        "data/pandalm-test/test": [{**each, "input": "", **votes} for each in compared],
    }
    Path("data/pandalm-test").mkdir(parents=True)
    for name, content in files.items():
        write_jsonl(Path(f"{name}.jsonl"), content)
    return uptake


@pytest.mark.parametrize(("where", "calls"), blocks(), ids=lambda each: each if isinstance(each, str) else "")
def test_a_block_runs_as_written(where: str, calls: Sequence[Sequence[str]], rows: Cli) -> None:
    given = {path for path in Path().rglob("*") if path.is_file()}
    for name, method, data in (
        ("./reward-model", "reward_model", "pairs"),
        ("./token-rewards", "token_reward_model", "edits"),
    ):
        if any(name in part for call in calls for part in call):
            made = rows("train", method, "--policy", "model", "--data", f"{data}.jsonl", "--out", method, "--lora", 8)
            assert "report:" in made
            Path(name).symlink_to(f"{method}/model")
    for call in calls:
        if call[0] == "annotate":  # it waits for a person
            continue
        # A file that a page makes anew is not there yet; what it has made itself stays.
        out = Path(call[call.index("--out") + 1]) if "--out" in call else Path()
        if out in given:
            given.remove(out)
            out.unlink()
        name = call[1] if call[0] == "train" else call[0]
        cut = [*call, *SHORTER.get(name, ())]
        if name in REFUSED:
            reason, left = REFUSED[name]
            code, _, error = rows.run(*cut)
            assert (code, reason in error) == (2, True), error
            cut += left
        assert rows(*cut), where
