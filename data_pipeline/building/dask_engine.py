"""A Dask cluster as the engine of a build."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_pipeline.base.errors import UserError
from data_pipeline.building.errors import CONTINUE, CanContinue
from data_pipeline.building.local_engine import (
    Execute,
    Function,
    Result,
    Workers,
    without_interrupts,
)
from data_pipeline.recipe import Run

WAIT_S = 60  # for running tasks when a build ends before its time


@contextlib.contextmanager
def start_dask(settings: Run, count: int, memory: int) -> Iterator[Workers]:
    """The workers of the recipe's scheduler, or `count` of a cluster on this machine.

    memory: bytes that one may use, where the scheduler sets no limit.
    """
    try:
        from dask.distributed import Client, LocalCluster
    except ImportError:
        raise UserError(
            "run.engine: dask is not installed; install it with "
            '`pip install "ppminilm-fleet[cluster]"`'
        ) from None

    scheduler = settings.scheduler
    with contextlib.ExitStack() as stack:
        if scheduler is None:
            with without_interrupts():
                cluster = LocalCluster(
                    n_workers=count,
                    threads_per_worker=1,
                    dashboard_address=None,
                    silence_logs="CRITICAL",
                )
                # Before Ctrl-C gets through again: nobody else would end its processes.
                scheduler = stack.enter_context(cluster)
        argument = "scheduler_file" if Path(str(scheduler)).is_file() else "address"
        try:
            client = stack.enter_context(Client(**{argument: scheduler}))
        except (OSError, ValueError) as error:
            raise UserError(f"run.scheduler: no Dask scheduler at {scheduler}: {error}") from None
        workers = client.scheduler_info(n_workers=-1)["workers"]
        _refuse_threads(workers)
        limits = [worker["memory_limit"] for worker in workers.values()]
        yield Workers(_executor(client), min(filter(None, limits), default=memory))


def _executor(client: Any) -> Execute:
    from dask.distributed import as_completed, wait
    from distributed.scheduler import KilledWorker

    def execute(function: Function, tasks: list[Any]) -> Iterator[tuple[int, Result]]:
        # When a worker dies its tasks go to another one; what they leave are whole files, so it
        # does no harm to do one twice.
        futures = client.map(function, tasks, pure=False)
        numbers = {future.key: i for i, future in enumerate(futures)}
        try:
            for future in as_completed(futures):
                yield numbers[future.key], future.result()
        except KilledWorker as error:
            raise CanContinue(
                f"every Dask worker that tried it died: {error}. {CONTINUE}"
            ) from None
        finally:
            unfinished = [future for future in futures if not future.done()]
            client.cancel(unfinished)
            with contextlib.suppress(Exception):  # cancelled, or the scheduler is gone
                wait(unfinished, timeout=WAIT_S)

    return execute


def _refuse_threads(workers: dict[str, dict[str, Any]]) -> None:
    """UserError for workers with several threads: tasks are processor-bound Python."""
    threaded = [name for name, worker in workers.items() if worker["nthreads"] > 1]
    if threaded:
        raise UserError(
            f"run.scheduler: {len(threaded)} of {len(workers)} Dask workers have several threads "
            f"({threaded[0]}, for one); start them with --nthreads 1 --nworkers N"
        )
