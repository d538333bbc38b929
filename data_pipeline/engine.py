"""Who does the tasks of a step: this process, processes on this machine, or a Dask cluster."""

import contextlib
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from data_pipeline.base.errors import UserError
from data_pipeline.recipe import Run

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
    pool = ProcessPoolExecutor(workers, context, initializer=_end_with_parent)

    def run(task: Task, calls: list[tuple]) -> Iterator[tuple[int, dict[str, Any]]]:
        futures = {pool.submit(task, *arguments): i for i, arguments in enumerate(calls)}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool:
            raise UserError(
                "a worker process died (killed, or out of memory: fewer --run.workers or a "
                "smaller piece_mb need less). What is finished is kept: the same command goes on"
            ) from None

    try:
        yield run
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _end_with_parent() -> None:
    """Without this, workers of a killed build would wait for ever."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def _dask(scheduler: str | None, workers: int) -> Iterator[Runner]:
    try:
        from dask.distributed import Client, LocalCluster, as_completed
    except ImportError:
        raise UserError(
            "run.engine: dask is not installed; `pip install ppminilm-fleet[cluster]`"
        ) from None

    with contextlib.ExitStack() as stack:
        if scheduler is None:
            scheduler = stack.enter_context(
                LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)
            )
        elif Path(scheduler).is_file():
            scheduler = None, scheduler
        try:
            client = (
                Client(scheduler_file=scheduler[1])
                if isinstance(scheduler, tuple)
                else Client(scheduler)
            )
        except (OSError, ValueError) as error:
            raise UserError(f"run.scheduler: no Dask scheduler at {scheduler}: {error}") from None
        stack.enter_context(client)

        def run(task: Task, calls: list[tuple]) -> Iterator[tuple[int, dict[str, Any]]]:
            # A task whose worker dies is given to another one; results are files, so it is safe.
            futures = [client.submit(task, *arguments, pure=False) for arguments in calls]
            numbers = {future.key: i for i, future in enumerate(futures)}
            for future in as_completed(futures):
                yield numbers[future.key], future.result()

        yield run
