"""Who does the tasks of a step: this process, processes on this machine, a Dask cluster,
or Slurm."""

import contextlib
from collections.abc import Iterator

from data_pipeline.base.machine import cores
from data_pipeline.building.dask_engine import start_dask
from data_pipeline.building.local_engine import Execute, in_this_process, processes
from data_pipeline.building.slurm_engine import start_slurm
from data_pipeline.recipe import Run

SLURM_WORKERS = 64  # elements of an array that run at a time, where the recipe does not say


@contextlib.contextmanager
def start(settings: Run) -> Iterator[Execute]:
    """What executes tasks, for as long as the context lasts."""
    workers = settings.workers or cores()
    if settings.engine == "dask":
        with start_dask(settings, workers) as execute:
            yield execute
    elif settings.engine == "slurm":
        with start_slurm(settings, settings.workers or SLURM_WORKERS) as execute:
            yield execute
    elif workers == 1:
        yield in_this_process
    else:
        with processes(workers) as execute:
            yield execute
