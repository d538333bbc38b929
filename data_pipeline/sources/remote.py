"""Files on other storage (S3, OSS, HDFS, ...), named by a URL and reached through fsspec."""

import contextlib
import dataclasses
import fnmatch
import shutil
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from data_pipeline.base.errors import UserError
from data_pipeline.sources import streams
from data_pipeline.sources.parts import Input

MAGIC = "*?["


def is_remote(path: str) -> bool:
    """Whether a path is a URL."""
    return "://" in path


def _is_glob(path: str) -> bool:
    return any(char in path for char in MAGIC)


class Found(NamedTuple):
    """What a URL names."""

    files: list[tuple[str, int, int]]
    """(URL, bytes, time of the last change in ns or 0) of each file."""
    folders: list[str]
    """URLs of the folders that a glob matches."""
    is_folder: bool
    """Whether the URL is that of a folder."""


def find_remote(pattern: str) -> Found:
    """The files of the URL of a file, of a folder (with all its folders) or of a glob.

    Without hidden ones, as on a local disk. UserError when there is no file, and when a folder on
    the way cannot be listed: fsspec's own `glob` and `find` pass over it.
    """
    try:
        system, path = _file_system(pattern)
        is_folder = system.isdir(path)
        if is_folder:
            infos = dict(_walk(system, path))
        elif _is_glob(path) and not system.isfile(path):
            parts = path.split("/")
            count = next(i for i, part in enumerate(parts) if _is_glob(part))
            infos = dict(_matches(system, "/".join(parts[:count]), parts[count:]))
        else:
            infos = {path: system.info(path)}
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"sources: {pattern}: {error}") from None
    files = [
        (system.unstrip_protocol(name), info["size"], _time(info))
        for name, info in infos.items()
        if info["type"] == "file"
    ]
    folders = [] if is_folder else [n for n, info in infos.items() if info["type"] == "directory"]
    if not files and not is_folder:
        reason = "only folders match" if folders else "there is no such file or folder"
        raise UserError(f"sources: {pattern}: {reason}")
    return Found(files, [system.unstrip_protocol(name) for name in folders], is_folder)


Entries = Iterator[tuple[str, dict[str, Any]]]
"""(name, info) of files and folders."""


def _listed(system: Any, folder: str, *, with_hidden: bool = False) -> Entries:
    """What is in a folder. OSError when it cannot be listed."""
    for info in system.ls(folder or "/", detail=True):
        name = info["name"].rstrip("/")
        # Some stores list a folder as an entry of itself.
        is_itself = name.strip("/") == folder.strip("/")
        if not is_itself and (with_hidden or not PurePosixPath(name).name.startswith(".")):
            yield name, info


def _walk(system: Any, folder: str) -> Entries:
    """All files below a folder."""
    for name, info in _listed(system, folder):
        if info["type"] == "directory":
            yield from _walk(system, name)
        else:
            yield name, info


def _matches(system: Any, folder: str, parts: list[str]) -> Entries:
    """What matches a glob below a folder. As in Python's `glob`, ** is any number of folders, and
    at the end all that is below them."""
    first, *rest = parts
    if not _is_glob(first):
        name = f"{folder}/{first}"
        try:
            info = system.info(name)
        except (FileNotFoundError, NotADirectoryError):
            return
        if not rest:
            yield name, info
        elif info["type"] == "directory":
            yield from _matches(system, name, rest)
        return
    if first == "**" and rest:
        yield from _matches(system, folder, rest)
    for name, info in _listed(system, folder, with_hidden=first.startswith(".")):
        is_folder = info["type"] == "directory"
        if first == "**":
            if not rest:
                yield name, info
            if is_folder:
                yield from _matches(system, name, parts)
        elif fnmatch.fnmatchcase(PurePosixPath(name).name, first):
            if not rest:
                yield name, info
            elif is_folder:
                yield from _matches(system, name, rest)


def remote_head(url: str) -> bytes:
    """The first bytes of a file, decompressed."""
    system, path = _file_system(url)
    with contextlib.suppress(streams.Damaged), system.open(path, "rb") as raw:
        stream = streams.decompressed(raw, PurePosixPath(path).suffix.lower())
        return next(streams.blocks(stream, streams.HEAD), b"")
    return b""


@contextlib.contextmanager
def local_copy(entry: Input) -> Iterator[Input]:
    """The same input as a local file, which lasts as long as the context."""
    if not is_remote(entry.path):
        yield entry
        return
    system, path = _file_system(entry.path)
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder, PurePosixPath(path).name)
        with system.open(path, "rb") as remote, local.open("wb") as file:
            shutil.copyfileobj(remote, file, streams.BLOCK)
        yield dataclasses.replace(entry, path=str(local))


def _file_system(url: str) -> tuple[Any, str]:
    import fsspec

    return fsspec.core.url_to_fs(url)


def _time(info: dict[str, Any]) -> int:
    for key in ("mtime", "LastModified", "created"):
        value = info.get(key)
        if isinstance(value, datetime):
            return int(value.timestamp() * 1e9)
        if isinstance(value, int | float):
            return int(value * 1e9)
    return 0
