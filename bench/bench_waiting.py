"""How long a run waits for an annotator behind a network: every answer takes a second, 16 questions are open at a time.

With `ahead` 0 the policy waits for every verdict; with 1 it samples the next round first and learns meanwhile.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from time import perf_counter, sleep

from _harness import record
from _model import llama, tokenizer
from bench_online import ANSWER, INSTRUCTIONS, PROMPT, PROMPTS, prompts

from uptake import ChatFormat, Prompt, Turn, World, methods, run
from uptake.models import prepare
from uptake.support.keys import prompt_key

LATENCY, CONCURRENCY, STEPS = 1.0, 16, 4
ANSWERED = {"choices": [{"message": {"content": "1"}}], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}


class Slow(BaseHTTPRequestHandler):
    """Prefers whatever it is shown first or second, by the length of the question, after a second."""

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        question = self.rfile.read(length)
        sleep(LATENCY)
        choice = {"message": {"content": "12"[hash(question) % 2]}}
        body = json.dumps(ANSWERED | {"choices": [choice]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not worth a line each."""


@contextmanager
def serving() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()


def waited(ahead: int, url: str, folder: Path) -> tuple[float, float]:
    """Seconds in all, and seconds that the policy waited for verdicts."""
    policy = prepare(llama(384, 1024, 10, heads=6, pad_token_id=0, eos_token_id=None), tokenizer())
    turns = [(Turn("user", said),) for said in prompts()]
    rows = [Prompt(each, prompt_key(each)) for each in turns]
    folder.mkdir()
    instructions = folder.with_suffix(".txt")
    instructions.write_text(f"{INSTRUCTIONS.text}\n{INSTRUCTIONS.cue}")
    asked = {"url": url, "model": "slow", "concurrency": CONCURRENCY, "instructions": str(instructions)}
    options = {"judge": {"server": asked}, "batch_size": PROMPTS, "max_new_tokens": ANSWER, "ahead": ahead}
    world = World(policy, ChatFormat.of(policy), rows, folder=folder)
    start = perf_counter()
    # Hard labels of an annotator that contradicts itself are ties; soft ones keep every pair.
    run(methods.build("oaif", {**options, "steps": STEPS, "label": "soft"}), world)
    seconds = perf_counter() - start
    phases = [json.loads(line) for line in (folder / "timing.jsonl").read_text().splitlines()]
    waiting = "wait" if ahead else "judge"
    return seconds, sum(phase["seconds"] for phase in phases if phase["phase"] == waiting)


def main() -> None:
    rows = []
    with serving() as url, tempfile.TemporaryDirectory() as folder:
        for ahead in (0, 1):
            seconds, waiting = waited(ahead, url, Path(folder) / f"ahead-{ahead}")
            rows.append(
                {
                    "rounds ahead": ahead,
                    "seconds a step": f"{seconds / STEPS:.2f}",
                    "waiting": f"{waiting:.2f} s",
                    "share": f"{waiting / seconds:.1%}",
                }
            )
    record(
        "waiting",
        f"An annotator of {LATENCY:g} s latency, {CONCURRENCY} questions at a time, {STEPS} online steps of {PROMPTS} "
        f"prompts of {PROMPT} tokens",
        rows,
    )


if __name__ == "__main__":
    main()
