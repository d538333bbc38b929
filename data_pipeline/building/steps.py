"""The work of a build, cut into tasks that any process can do, in any order within a step.

    read     piece -> cleaned sentences, their hashes, counts of characters and words
    near     partition of the documents' MinHash bands -> documents to drop
    exact    partition of the sentences' hashes -> sentences to drop
    write    piece, and what is to be dropped from it -> one shard

A task leaves its files whole and then its result, a small JSON file, which is what says that it
is done. Doing it again changes nothing.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.base.errors import UserError
from data_pipeline.base.files import write_json
from data_pipeline.building import dedup, plan, reading, writing
from data_pipeline.building.engine import KEPT
from data_pipeline.building.plan import Plan

FULL = 1 << 20  # bytes: with less than that free, a failure to write is a lack of space


def run(folder: Path, step: str, number: int, count: int) -> dict[str, Any]:
    """Do task `number` of the `count` of a step, or find that it is done; its result.

    UserError when the disk is full or a file cannot be read.
    """
    build = plan.load(folder)
    path = build.file(step, number, ".json")
    result = finished(path)
    if result is None:
        try:
            result = STEPS[step](build, number, count)
            write_json(path, result)
        except OSError as error:
            raise explained(error, folder, f"{step} of piece {number}") from error
    return result


def explained(error: OSError, folder: Path, what: str) -> UserError:
    """The words for a write or read that failed; not every library says that a disk is full."""
    free = shutil.disk_usage(folder).free if folder.exists() else FULL
    why = f"no space left on the disk of {folder} ({error})" if free < FULL else str(error)
    return UserError(f"{what}: {why}. {KEPT}")


def finished(path: Path) -> dict[str, Any] | None:
    """The result of a task, if it is done."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def _near(build: Plan, number: int, count: int) -> dict[str, Any]:
    return _drop(build, "near", number, count, None)


def _exact(build: Plan, number: int, count: int) -> dict[str, Any]:
    without = [writing.dropped(build, "near", piece) for piece in range(len(build.pieces))]
    return _drop(build, "exact", number, count, without)


def _drop(
    build: Plan, step: str, number: int, count: int, without: list[np.ndarray] | None
) -> dict[str, Any]:
    records = [build.file("read", piece, f".{step}.npy") for piece in range(len(build.pieces))]
    dropped = dedup.later_occurrences(records, number, count, without)
    dedup.save(build.file(step, number, ".npy"), dropped)
    return {"dropped": len(dropped)}


STEPS = {
    "read": lambda build, number, _: reading.read(build, number),
    "near": _near,
    "exact": _exact,
    "write": lambda build, number, _: writing.write(build, number),
}
