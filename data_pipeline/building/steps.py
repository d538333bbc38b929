"""The work of a build, cut into tasks that any process can do, in any order within a step.

    unpack       large input that cannot be cut -> chunks
    read         piece -> cleaned sentences, their hashes, counts of characters and words
    near         partition of the documents' MinHash bands -> documents to drop
    near_drops   group of pieces -> what the partitions drop, one list a piece
    exact        partition of the sentences' hashes -> sentences to drop
    exact_drops  as near_drops
    write        piece, and what is dropped from it -> one shard

A task leaves its files whole and then its result, a small JSON file, which is what says that it
is done. Doing it again changes nothing.
"""

import errno
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from data_pipeline.base.errors import UserError
from data_pipeline.base.files import sync, write_atomically
from data_pipeline.building import dedup, piece_file, reading, unpacking, writing
from data_pipeline.building.errors import CONTINUE, CanContinue
from data_pipeline.building.plan import Plan, load_plan, versions
from data_pipeline.building.records import KINDS

FULL = 1 << 20  # bytes: with less than that free, a failure to write is a lack of space
PASSING = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EINTR}
PAUSE = 1.0  # seconds before the first retry, twice as many before the next


@dataclass(frozen=True)
class Task:
    """Number `number` of the `count` tasks of a step."""

    folder: Path
    """The working directory."""
    build_id: str
    step: str
    number: int
    count: int
    versions: tuple[tuple[str, str], ...]
    """Of the process that hands the tasks out."""


def execute(task: Task) -> dict[str, Any]:
    """Do a task, unless it is done already; its result.

    UserError when the disk is full, when a file cannot be read, when the task belongs to a build
    that is no more, and when this process has other versions than the build.
    """
    plan = _plan_of(task)
    path = plan.file(task.step, task.number, ".json")
    result = finished(path)
    if result is None:
        result = _with_retries(plan, task)
        sync(path.parent)  # the files that the result speaks of, before it
        # Without its result a task is done again, which only costs time: who removes nothing needs
        # not wait until the result would outlast a power failure.
        spent = list(_no_longer_needed(plan, task, result))
        write_atomically(path, json.dumps(result), sync_folder=bool(spent))
        for one in spent:
            one.unlink(missing_ok=True)
    return result


def _no_longer_needed(plan: Plan, task: Task, result: dict[str, Any]) -> Iterator[Path]:
    """What the files of a finished task were made from."""
    if task.step == "write":
        yield plan.file("read", task.number, piece_file.SUFFIX)
    if task.step == "read":
        for number, chunk in result["chunks"]:
            yield plan.chunk_file(number, chunk)


def finished(path: Path) -> dict[str, Any] | None:
    """The result of a task, if it is done."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def explain(error: OSError, folder: Path, what: str) -> CanContinue:
    """The message for a failed read or write; not every library reports a full disk as such."""
    free = shutil.disk_usage(folder).free if folder.exists() else FULL
    full = free < FULL or error.errno in (errno.ENOSPC, errno.EDQUOT)
    reason = f"no space left on the disk of {folder} ({error})" if full else str(error)
    return CanContinue(f"{what}: {reason}. {CONTINUE}")


def _plan_of(task: Task) -> Plan:
    differing = [f"{n}: {v} there, {own} here" for n, v, own in _other_versions(task.versions)]
    if differing:
        raise UserError(
            f"this worker has other versions than the build ({'; '.join(differing)}); "
            "start all workers from the same environment"
        )
    try:
        plan = load_plan(task.folder)
    except FileNotFoundError:
        raise UserError(f"{task.folder} does not exist any more: the build was removed") from None
    if plan.id != task.build_id:
        raise UserError(f"{task.folder}: this task belongs to an earlier build")
    return plan


@lru_cache(maxsize=4)
def _other_versions(expected: tuple[tuple[str, str], ...]) -> list[tuple[str, str, str]]:
    own = versions()
    return [(name, v, own.get(name, "none")) for name, v in expected if own.get(name) != v]


def _with_retries(plan: Plan, task: Task) -> dict[str, Any]:
    for attempt in range(plan.recipe.run.retries + 1):
        try:
            return STEPS[task.step](plan, task.number, task.count)
        except OSError as error:
            if error.errno not in PASSING or attempt == plan.recipe.run.retries:
                what = f"{task.step} of piece {task.number}"
                raise explain(error, task.folder, what) from error
            time.sleep(PAUSE * 2**attempt)
    raise AssertionError("unreachable")


def _find_duplicates(plan: Plan, step: str, number: int, count: int) -> dict[str, Any]:
    paths = [plan.file("read", piece, piece_file.SUFFIX) for piece in range(plan.pieces)]
    dropped = None
    if step == "exact" and plan.recipe.dedup.near:
        dropped = dedup.Drops(plan, "near").of
    drops = dedup.later_occurrences(paths, KINDS[step], number, count, dropped)
    dedup.save_array(plan.file(step, number, ".npy"), drops)
    return {"dropped": len(drops)}


def _regroup(plan: Plan, step: str, number: int, count: int) -> dict[str, Any]:
    layout = dedup.read_layout(plan, step)
    assert layout is not None  # the build writes it before the tasks
    paths = [plan.file(step, partition, ".npy") for partition in range(layout["partitions"])]
    first, last = dedup.group_range(number, count, plan.pieces)
    lists = (items for _, items in dedup.regroup(paths, first, last))
    dedup.save_group(plan.file(f"{step}_drops", number, dedup.GROUP_SUFFIX), lists)
    return {"pieces": last - first}


STEPS: dict[str, Callable[[Plan, int, int], dict[str, Any]]] = {
    "unpack": lambda plan, number, _: unpacking.unpack(plan, number),
    "read": lambda plan, number, _: reading.read(plan, number),
    "near": lambda plan, number, count: _find_duplicates(plan, "near", number, count),
    "near_drops": lambda plan, number, count: _regroup(plan, "near", number, count),
    "exact": lambda plan, number, count: _find_duplicates(plan, "exact", number, count),
    "exact_drops": lambda plan, number, count: _regroup(plan, "exact", number, count),
    "write": lambda plan, number, _: writing.write(plan, number),
}
