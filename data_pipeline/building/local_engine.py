"""This process, or processes on this machine, as the engine of a build."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from typing import Any, NamedTuple

from data_pipeline.building.errors import CONTINUE, CanContinue

Result = dict[str, Any]
Function = Callable[[Any], Result]
Execute = Callable[[Function, list[Any]], Iterator[tuple[int, Result]]]
"""From a function and its arguments, one a task, to (index of the task, result) as they finish."""


class Workers(NamedTuple):
    """Who does the tasks."""

    execute: Execute
    memory_bytes: int
    """What one of them may use."""


def in_this_process(function: Function, tasks: list[Any]) -> Iterator[tuple[int, Result]]:
    for index, task in enumerate(tasks):
        yield index, function(task)


@contextlib.contextmanager
def without_interrupts() -> Iterator[None]:
    """Hold Ctrl-C back. Threads and processes that start meanwhile never receive it: a worker
    leaves it to the build, which lets the running tasks be finished and saved."""
    # It is started with the first process otherwise, and then lets SIGINT through again
    # (https://github.com/python/cpython/blob/3.11/Lib/multiprocessing/resource_tracker.py).
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def processes(workers: int) -> Iterator[Execute]:
    # Not forked: a fork of a process with threads may hang, and shares open HDF5 files.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_end_with_parent)

    def execute(function: Function, tasks: list[Any]) -> Iterator[tuple[int, Result]]:
        with without_interrupts():  # the pool starts its processes as it is given tasks
            futures = {pool.submit(function, task): i for i, task in enumerate(tasks)}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool:
            raise CanContinue(
                "a worker process died (killed, or out of memory: fewer --run.workers or a "
                f"smaller piece_mb need less). {CONTINUE}"
            ) from None

    try:
        yield execute
    finally:
        _shut_down(pool)


def _shut_down(pool: ProcessPoolExecutor) -> None:
    """Wait for the running tasks; a second Ctrl-C ends the workers at once."""
    try:
        pool.shutdown(wait=True, cancel_futures=True)
    except KeyboardInterrupt:
        for process in multiprocessing.active_children():
            process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)
        raise


def _end_with_parent() -> None:
    """End when the build is killed, rather than wait for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # this is a worker

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
