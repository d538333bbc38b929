"""Who does the tasks of a step: this process, processes on this machine, or a Dask cluster."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from data_pipeline.base.errors import UserError
from data_pipeline.recipe import Run

KEPT = "What is finished is kept: the same command goes on from there"

Task = Callable[..., dict[str, Any]]
Runner = Callable[[Task, list[tuple]], Iterator[tuple[int, dict[str, Any]]]]
"""From a function and the arguments of its calls to (index of the call, result) as they finish."""


@contextlib.contextmanager
def start(settings: Run) -> Iterator[Runner]:
    """A runner for as long as the context lasts."""
    workers = settings.workers or len(os.sched_getaffinity(0))
    if settings.engine == "dask":
        with _dask(settings.scheduler, workers) as runner:
            yield runner
    elif workers == 1:
        yield _here
    else:
        with _processes(workers) as runner:
            yield runner


def _here(task: Task, calls: list[tuple]) -> Iterator[tuple[int, dict[str, Any]]]:
    for index, arguments in enumerate(calls):
        yield index, task(*arguments)


@contextlib.contextmanager
def _processes(workers: int) -> Iterator[Runner]:
    # Not forked: a fork of a process with threads may hang, and shares open HDF5 files.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_follow_parent)

    def run(task: Task, calls: list[tuple]) -> Iterator[tuple[int, dict[str, Any]]]:
        futures = {pool.submit(task, *arguments): i for i, arguments in enumerate(calls)}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool:
            raise UserError(
                "a worker process died (killed, or out of memory: fewer --run.workers or a "
                f"smaller piece_mb need less). {KEPT}"
            ) from None

    try:
        yield run
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _follow_parent() -> None:
    """End when the build is killed, rather than wait for ever; leave Ctrl-C to the build, which
    lets the task at hand be finished and kept."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def _dask(scheduler: str | None, workers: int) -> Iterator[Runner]:
    try:
        from dask.distributed import Client, LocalCluster, as_completed
        from distributed.scheduler import KilledWorker
    except ImportError:
        raise UserError(
            "run.engine: dask is not installed; install it with "
            '`pip install "ppminilm-fleet[cluster]"`'
        ) from None

    def run(task: Task, calls: list[tuple]) -> Iterator[tuple[int, dict[str, Any]]]:
        # When a worker dies its tasks go to another one; what they leave are whole files, so it
        # does no harm to do one twice.
        futures = [client.submit(task, *arguments, pure=False) for arguments in calls]
        numbers = {future.key: i for i, future in enumerate(futures)}
        try:
            for future in as_completed(futures):
                yield numbers[future.key], future.result()
        except KilledWorker as error:
            raise UserError(f"every Dask worker that tried it died: {error}. {KEPT}") from None

    with contextlib.ExitStack() as stack:
        if scheduler is None:
            cluster = LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)
            scheduler = stack.enter_context(cluster)
        named = "scheduler_file" if Path(str(scheduler)).is_file() else "address"
        try:
            client = stack.enter_context(Client(**{named: scheduler}))
        except (OSError, ValueError) as error:
            raise UserError(f"run.scheduler: no Dask scheduler at {scheduler}: {error}") from None
        yield run
