"""An output directory is written once, whole, and again only if its settings or inputs change."""

import contextlib
import fcntl
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from data_pipeline.base.errors import UserError
from data_pipeline.base.files import sha256, write_json
from data_pipeline.base.recipes import Recipe, differences
from finetune.tasks.registry import source_of
from finetune.tasks.settings import TaskSettings
from finetune.training import ranks

RECORD = "stage.json"  # written last: a directory without it is not finished
DESCRIBED = {"size", "mtime_ns", "sha256"}  # what the record says of each file
Input = Path | TaskSettings
WEIGHTS = (".safetensors", ".onnx", ".pdiparams", ".pdparams")


def make_once(
    stage: str,
    directory: Path,
    settings: Recipe,
    inputs: Sequence[Input],
    write: Callable[[Path], None],
    *,
    on_all_ranks: bool = False,
) -> Path:
    """Let `write` fill a temporary directory and put it in place as `directory`; returns that.

    Nothing is done when `directory` is whole and was finished by the same settings from the same
    inputs, which are compared by their contents. inputs: model directories, and tasks.
    on_all_ranks: every rank calls `write`, with a directory of its own, of which the first rank's
    is the product; else the first rank alone does, and the others wait.

    UserError: no stage has written `directory`, or another process is writing it.
    """
    directory = Path(directory)
    world = ranks.join()
    with locked_by_first(world, output_dir=directory):
        whole = place_of(directory)
        temporary = whole.with_name(f".{whole.name}.making{world.rank or ''}")

        def prepare() -> dict | None:
            record = {
                "stage": stage,
                "settings": settings.model_dump(mode="json"),
                **fingerprints(inputs),
            }
            return record if _must_be_written(stage, directory, record) else None

        def write_first() -> None:
            _empty(temporary)
            write(temporary)

        record = ranks.from_first(world, prepare)
        if record is None:
            return directory
        began = time.monotonic()
        if not on_all_ranks:
            ranks.from_first(world, write_first)
        else:
            write_first()
            if world.rank:
                shutil.rmtree(temporary)
        if world.rank == 0:
            seconds = round(time.monotonic() - began, 1)
            more = {"seconds": seconds, "outputs": _describe(temporary)}
            write_json(temporary / RECORD, record | more)
            _put_in_place(temporary, whole)
            _log(f"{stage}: {directory} written in {seconds:.0f} s")
        ranks.from_first(world, lambda: None)  # the product is there before anyone reads it
    return directory


def fingerprints(inputs: Sequence[Input]) -> dict[str, dict]:
    """`inputs`, the `fingerprint` of every file and folder; `sources`, what tasks read besides."""
    tasks = [one for one in inputs if isinstance(one, TaskSettings)]
    paths = [one for one in inputs if not isinstance(one, TaskSettings)]
    paths += [path for task in tasks for path in task_files(task)]
    return {
        "inputs": {str(path): fingerprint(path) for path in paths},
        "sources": {name: state for task in tasks for name, state in source_of(task).items()},
    }


def changes(previous: dict[str, Any], record: dict[str, Any]) -> list[str]:
    """What differs in a record from an earlier one, each with both values.

    A record without `sources` is of a version that knew none: its product is not made again for it.
    """
    before = {"sources": record["sources"]} | previous
    return differences({key: before.get(key) for key in record}, record)


def fingerprint(path: Path) -> str | dict[str, str]:
    """Hash of a file; or of every file in a folder, by name, except notes and hidden files.

    UserError when there is no such file or folder, or when a model directory has no weights.
    """
    path = Path(path)
    if path.is_file():
        return sha256(path)
    if not path.is_dir():
        raise UserError(f"{path}: no such file or directory")
    names = sorted(p.name for p in path.iterdir() if p.is_file() and _counts(p.name))
    is_model = any(name in names for name in ("config.json", "deploy.json")) or not names
    if is_model and not any(name.endswith(WEIGHTS) for name in names):
        raise UserError(f"{path}: no model there (no file of {', '.join(WEIGHTS)})")
    return {name: sha256(path / name) for name in names}


def task_files(settings: TaskSettings) -> list[Path]:
    """The files and folders that a task reads, as far as its settings name them."""
    values = (getattr(settings, name) for name in TaskSettings.model_fields)
    return [value for value in values if isinstance(value, Path) and value.exists()]


def place_of(directory: Path, field: str = "output_dir") -> Path:
    """The absolute path of an output directory; UserError when none can be of that name."""
    try:
        whole = Path(directory).resolve()
    except (ValueError, OSError, RuntimeError) as error:  # a null character; a loop of links
        raise UserError(f"{field}: {str(directory)!r}: no name of a directory: {error}") from None
    if not whole.name:
        raise UserError(f"{field}: {directory} is the root of the file system")
    return whole


@contextlib.contextmanager
def locked(directory: Path, field: str = "output_dir") -> Iterator[None]:
    """Hold an output directory for this process; UserError when another process holds it.
    field: of the recipe, for the message.

    The lock is a file next to the directory, which is removed at the end. It ends with the process,
    however that ends.
    """
    whole = place_of(directory, field)
    path = whole.with_name(f".{whole.name}.lock")
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a+")
        except OSError as error:
            raise UserError(f"{field}: {directory}: cannot write: {error.strerror}") from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"{field}: {directory} is being written by another process; "
                    f"wait for it, or name another {field}"
                ) from None
            except OSError as error:  # some cluster file systems have no locks
                _log(f"{path}: cannot be locked ({error}); start this command only once at a time")
            if not _is_same_file(file, path):
                continue  # removed by its last holder between open and lock
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


@contextlib.contextmanager
def locked_by_first(world: ranks.World, **directories: Path | None) -> Iterator[None]:
    """`locked`, by the first rank for all of them, for each field of a recipe that names a
    directory; two fields may name the same one."""
    with contextlib.ExitStack() as stack:

        def hold() -> None:
            held = set()
            for field, directory in directories.items():
                if directory is not None and (whole := place_of(directory, field)) not in held:
                    stack.enter_context(locked(directory, field))
                    held.add(whole)

        ranks.from_first(world, hold)
        yield


def read_record(directory: Path) -> dict | None:
    """The record of a finished directory; None when there is nothing yet.

    UserError when the directory holds something that no stage has written.
    """
    try:
        record = json.loads((directory / RECORD).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        record = None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{directory / RECORD}: unreadable ({error}); remove {directory}") from None
    if record is None:
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise UserError(
                f"{directory}: exists and was not made by this command; "
                "name another output_dir or remove it"
            )
        return None
    if not isinstance(record, dict):
        raise UserError(f"{directory / RECORD}: not a JSON object; remove {directory}")
    return record


def _must_be_written(stage: str, directory: Path, record: dict[str, Any]) -> bool:
    previous = read_record(directory)
    if previous is None:
        return True
    changed = changes(previous, record)
    changed += _damaged(directory, previous.get("outputs"))
    if not changed:
        _log(f"{stage}: {directory} is finished already")
        return False
    _log(f"{stage}: writing {directory} again because of " + "; ".join(changed)[:300])
    return True


def _describe(directory: Path) -> dict[str, dict]:
    """Size, time and hash of every file below a directory."""
    described = {}
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            status = path.stat()
            described[str(path.relative_to(directory))] = {
                "size": status.st_size,
                "mtime_ns": status.st_mtime_ns,
                "sha256": sha256(path),
            }
    return described


def _damaged(directory: Path, outputs: Any) -> list[str]:
    """Which files of a finished directory are missing or not as they were written."""
    if not isinstance(outputs, dict):
        return ["outputs: not recorded"]
    problems = []
    for name, written in outputs.items():
        path = directory / name
        if not isinstance(written, dict) or not written.keys() >= DESCRIBED:
            problems.append(f"{name}: not recorded")
            continue
        if not path.is_file():
            problems.append(f"{name}: deleted")
            continue
        status = path.stat()
        if (status.st_size, status.st_mtime_ns) == (written["size"], written["mtime_ns"]):
            continue
        if status.st_size != written["size"] or sha256(path) != written["sha256"]:
            problems.append(f"{name}: changed since it was written")
    return problems


def _put_in_place(temporary: Path, directory: Path) -> None:
    old = directory.with_name(f".{directory.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if directory.exists():
        directory.replace(old)
    temporary.replace(directory)
    shutil.rmtree(old, ignore_errors=True)


def _empty(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)


def _counts(name: str) -> bool:
    return not name.startswith(".") and name != RECORD and not name.endswith(".md")


def _is_same_file(file, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
