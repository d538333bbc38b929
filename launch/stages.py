"""Run a list of stages one after the other; finished ones are not run again.

A stage is one command, and what it leaves on disk. It counts as finished when the record says that
this very command, over these very recipe files and after these very earlier stages, ended well, and
what it makes is still there. The commands themselves resume what was interrupted in the middle.
"""

import hashlib
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

from pydantic import Field

from data_pipeline.base.errors import UserError
from data_pipeline.base.files import write_json
from data_pipeline.base.recipes import Recipe
from launch.environment import best_for_cpu, quiet


class Stage(Recipe):
    """One command, and the file that shows that it has finished."""

    name: str
    """Short name, unique in the list."""
    about: str
    """One line: what it does."""
    command: str
    """As typed in a shell, without shell features; a leading `python` is this interpreter."""
    makes: Path
    """A file that is there when the stage has finished."""
    processes: int = Field(1, ge=1)
    """How many busy processes it runs side by side; decides threads per process."""


class StageList(Recipe):
    """Stages in order, and what is printed after the last."""

    name: str
    """The name in messages."""
    record: Path
    """JSON file that remembers which stages have finished, and how long each took."""
    stages: list[Stage] = Field(min_length=1)
    """In the order in which they run."""
    outcome: dict[str, str]
    """Label to path or command, printed at the end."""
    next: tuple[str, ...] = ()
    """Commands worth typing next, printed at the end."""


def execute(stage_list: StageList, again: str | None = None) -> dict:
    """Run every stage that is not finished; return the record. `again` names one to redo.

    Raises UserError when a stage fails, with its command and exit code.
    """
    names = [stage.name for stage in stage_list.stages]
    if again is not None and again not in names:
        raise UserError(f"no stage {again!r}; the stages are {', '.join(names)}")
    record = _read_record(stage_list.record)
    previous = ""
    for number, stage in enumerate(stage_list.stages, 1):
        previous = digest(stage, previous)
        title = f"[{number}/{len(stage_list.stages)}] {stage.name}: {stage.about}"
        if stage.name != again and is_finished(stage, previous, record):
            print(f"{title} (finished earlier, {record[stage.name]['seconds']:.0f} s)", flush=True)
            continue
        print(f"\n{title}\n    $ {stage.command}", flush=True)
        record[stage.name] = {"digest": previous, "seconds": _execute(stage), "at": _now()}
        write_json(stage_list.record, record)
        print(f"    done in {record[stage.name]['seconds']:.0f} s", flush=True)
    return record


def digest(stage: Stage, previous: str) -> str:
    """What decides a stage's result: its command, the recipe files it names, the stages before."""
    hasher = hashlib.sha256(f"{previous}\n{stage.command}\n".encode())
    for word in shlex.split(stage.command):
        if word.endswith((".yaml", ".yml")) and Path(word).is_file():
            hasher.update(Path(word).read_bytes())
    return hasher.hexdigest()


def is_finished(stage: Stage, stage_digest: str, record: dict) -> bool:
    """Whether the record and the disk agree that this stage needs no run."""
    return record.get(stage.name, {}).get("digest") == stage_digest and stage.makes.exists()


def summary(stage_list: StageList, record: dict) -> str:
    """The text after the last stage: time taken, where the results are, what to type next."""
    seconds = sum(record[stage.name]["seconds"] for stage in stage_list.stages)
    width = max(len(label) for label in stage_list.outcome)
    lines = [
        f"\n{stage_list.name}: all {len(stage_list.stages)} stages finished, "
        f"{seconds / 60:.1f} min of work"
    ]
    lines += [f"  {label:<{width}}  {value}" for label, value in stage_list.outcome.items()]
    if stage_list.next:
        lines += ["next:", *(f"  {command}" for command in stage_list.next)]
    return "\n".join(lines)


def _execute(stage: Stage) -> float:
    command = shlex.split(stage.command)
    if command[0] == "python":
        command[0] = sys.executable
    environment = {**os.environ, **best_for_cpu(stage.processes), **quiet()}
    started = time.monotonic()
    process = subprocess.Popen(command, env=environment)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.wait()  # the terminal has sent it the same signal; let it save what it has
        raise
    if code != 0:
        raise UserError(
            f"stage {stage.name!r} ended with exit code {code}; its own messages are above.\n"
            f"  To start it alone: {stage.command}\n"
            "  Type the same command as before to continue; finished stages are not run again.",
            exit_code=code if 0 < code < 256 else 1,
        )
    if not stage.makes.exists():
        raise UserError(f"stage {stage.name!r} ended with 0 but did not write {stage.makes}")
    return time.monotonic() - started


def _read_record(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(
            f"{path}: the record of stages is unreadable ({error}); remove it"
        ) from None


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
