"""Who does the tasks of a step: this process, processes on this machine, a Dask cluster,
or Slurm."""

import contextlib
from collections.abc import Iterator

from data_pipeline.base.machine import cores, memory_bytes
from data_pipeline.building.dask_engine import start_dask
from data_pipeline.building.local_engine import Workers, in_this_process, processes
from data_pipeline.building.slurm_engine import start_slurm
from data_pipeline.recipe import Run

SLURM_WORKERS = 64  # elements of an array that run at a time, where the recipe does not say


@contextlib.contextmanager
def start(settings: Run) -> Iterator[Workers]:
    """What executes tasks, for as long as the context lasts."""
    count = settings.workers or cores()
    memory = memory_bytes() // count
    if settings.engine == "dask":
        with start_dask(settings, count, memory) as workers:
            yield workers
    elif settings.engine == "slurm":
        with start_slurm(settings, settings.workers or SLURM_WORKERS) as execute:
            yield Workers(execute, memory)
    elif count == 1:
        yield Workers(in_this_process, memory)
    else:
        with processes(count) as execute:
            yield Workers(execute, memory)
