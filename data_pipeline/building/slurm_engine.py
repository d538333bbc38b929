"""A Slurm array job for each step as the engine of a build, without Dask.

For a step it writes the list of its tasks and a batch script into the working directory and submits
the script with `sbatch --wait`. The build itself runs where sbatch can be called, and only waits.
"""

import contextlib
import dataclasses
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from data_pipeline.base.errors import UserError
from data_pipeline.base.files import write_atomically
from data_pipeline.building import steps
from data_pipeline.building.errors import CONTINUE, CanContinue
from data_pipeline.building.local_engine import Execute, Function, Result
from data_pipeline.building.plan import load_plan
from data_pipeline.building.steps import Task
from data_pipeline.recipe import Run

MAX_ELEMENTS = 1000  # Slurm's default MaxArraySize is 1001; an element does several tasks
SCRIPT = """#!/bin/bash
#SBATCH --job-name=data_pipeline-{step}
#SBATCH --array=0-{last}%{workers}
#SBATCH --cpus-per-task=1
#SBATCH --output={folder}/{step}-%a.log
{options}
cd {directory}
exec {python} -m data_pipeline.building.slurm_task {tasks} "$SLURM_ARRAY_TASK_ID" {elements}
"""


@contextlib.contextmanager
def start_slurm(settings: Run, workers: int) -> Iterator[Execute]:
    """Submits array jobs; `workers` elements of one run at a time."""
    if shutil.which("sbatch") is None:
        raise UserError("run.engine: slurm needs the command sbatch, which is not in the PATH")

    def execute(_: Function, tasks: list[Task]) -> Iterator[tuple[int, Result]]:
        if tasks:
            _submit(settings, workers, tasks)
        yield from enumerate(map(_result, tasks))

    yield execute


def write_script(settings: Run, workers: int, tasks: list[Task]) -> Path:
    """Write the tasks and the batch script of a step; the path of the script."""
    folder = tasks[0].folder / tasks[0].build_id / "slurm"
    step = tasks[0].step
    values = [{**dataclasses.asdict(task), "folder": str(task.folder)} for task in tasks]
    write_atomically(folder / f"{step}.json", json.dumps(values))
    elements = min(len(tasks), MAX_ELEMENTS)
    text = SCRIPT.format(
        step=step,
        last=elements - 1,
        workers=workers,
        folder=folder,
        options="\n".join(f"#SBATCH {option}" for option in settings.slurm_options),
        directory=shlex.quote(str(Path.cwd())),
        python=shlex.quote(sys.executable),
        tasks=shlex.quote(str(folder / f"{step}.json")),
        elements=elements,
    )
    write_atomically(folder / f"{step}.sh", text)
    return folder / f"{step}.sh"


def _submit(settings: Run, workers: int, tasks: list[Task]) -> None:
    script = write_script(settings, workers, tasks)
    job = subprocess.run(
        ["sbatch", "--wait", str(script)], capture_output=True, text=True, check=False
    )
    if job.returncode and any(steps.finished(_path(task)) is None for task in tasks):
        logs = [path.read_text(errors="replace") for path in script.parent.glob("*.log")]
        last = [line for log in logs for line in log.splitlines() if line.startswith("error:")]
        if last:  # what a task says itself: the recipe or the input may have to change
            raise UserError(last[0].removeprefix("error: "))
        reason = job.stderr.strip() or f"sbatch ended with {job.returncode}"
        raise CanContinue(f"{script}: {reason}; its logs are in {script.parent}. {CONTINUE}")


def _result(task: Task) -> Result:
    result = steps.finished(_path(task))
    if result is None:
        raise CanContinue(f"{task.step} {task.number} left no result. {CONTINUE}")
    return result


def _path(task: Task) -> Path:
    return load_plan(task.folder).file(task.step, task.number, ".json")
