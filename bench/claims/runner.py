"""Makes the results that claims need, two at a time: candidates of every arm first, then the chosen ones for all seeds.

A result that is there is not made again, and work that was begun goes on, so a call that was killed at any moment
continues where it was.
"""

import os
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from statistics import fmean
from threading import Thread
from time import process_time

import torch

from claims.claim import Arm, Claim, Measured, Options, Trial
from claims.store import Job, Store
from uptake.errors import ModelError
from uptake.support.progress import progress_bar

WORKERS = 2


def make(claims: Sequence[Claim], store: Store, workers: int = WORKERS) -> None:
    """Make every result that is missing; one worker works in this process."""
    arms = [(arm, claim.seeds) for claim in claims for arm in claim.arms]
    _make([job for arm, _ in arms for job in candidates(arm)], store, workers)
    _make([Job(arm, chosen(arm, store), seed, "held out") for arm, seeds in arms for seed in seeds], store, workers)


def candidates(arm: Arm) -> list[Job]:
    """The jobs that decide between an arm's candidates; none where there is but one."""
    each = arm.candidates if len(arm.candidates) > 1 else ()
    return [Job(arm, candidate, seed, "development") for candidate in each for seed in arm.development]


def tried(arm: Arm, store: Store) -> list[tuple[Options, list[float]]]:
    """Every candidate with its mean over the development questions by seed, minus infinity where it broke off.

    Raises ValueError where one has no result.
    """
    found: list[tuple[Options, list[float]]] = [(each, []) for each in arm.candidates]
    for job in candidates(arm):
        measured, reason = store.read(job)
        if measured is None:
            raise ValueError(f"{reason}, of which the rate was to be chosen")
        value = float("-inf") if measured.failed else fmean(measured.values[arm.chosen_by].values())
        found[arm.candidates.index(job.candidate)][1].append(value)
    return found


def chosen(arm: Arm, store: Store) -> Options:
    """The candidate with the best mean of all seeds to choose by; one that broke off with any of them comes last."""
    return best(tried(arm, store))


def best(found: Sequence[tuple[Options, list[float]]]) -> Options:
    """The candidate with the best sum over its seeds, the first of equal ones."""
    return max(found, key=lambda each: sum(each[1]))[0]


def _make(jobs: Iterable[Job], store: Store, workers: int) -> None:
    lacking = {job.digest: job for job in jobs if store.read(job)[0] is None}
    with ExitStack() as stack:
        bar = stack.enter_context(progress_bar("claims", len(lacking)))
        if workers > 1:
            pool = stack.enter_context(_processes(workers))
            begun = {pool.submit(work, job, store): job for job in lacking.values()}
            done: Iterator[tuple[Job, float]] = ((begun[each], each.result()) for each in as_completed(begun))
        else:
            done = ((job, work(job, store)) for job in lacking.values())
        for job, seconds in done:
            print(f"{seconds:7.1f} CPU seconds  {_name(job)}", file=sys.stderr, flush=True)
            bar.advance()


@contextmanager
def _processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """Worker processes; where the block is left by an error or a signal they end at once, whatever they are at."""
    context = get_context("spawn")
    ended = context.Event()
    with ProcessPoolExecutor(count, context, _begin, (os.getpid(), ended)) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            ended.set()
            raise


def work(job: Job, store: Store) -> float:
    """Do one job and keep its result; returns the CPU seconds it took."""
    before = process_time()
    trial = Trial(job.seed, job.questions, store.workspace(job))
    try:
        measured = job.arm.work({**job.arm.options, **job.candidate}, trial)
    except ModelError as error:  # a rate at which training breaks off is a result too
        measured = Measured({}, failed=str(error))
    store.write(job, measured)
    return process_time() - before


def _name(job: Job) -> str:
    return f"{job.arm.name} {dict(job.candidate) or ''}, seed {job.seed}"


def _begin(parent: int, ended: Event) -> None:
    """One thread, and an end with the parent: a worker that outlives it would hold the folders of its runs.

    Signals are the parent's; a terminal and a scheduler send them to all.
    """
    torch.set_num_threads(1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    Thread(target=_watch, args=(parent, ended), daemon=True).start()


def _watch(parent: int, ended: Event) -> None:
    while os.getppid() == parent and not ended.wait(0.2):
        pass
    os._exit(1)
