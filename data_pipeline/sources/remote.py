"""Files on other storage (S3, OSS, HDFS, ...), named by a URL and reached through fsspec."""

import contextlib
import dataclasses
import shutil
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from data_pipeline.base.errors import UserError
from data_pipeline.sources import streams
from data_pipeline.sources.parts import Input


def is_remote(path: str) -> bool:
    """Whether a path is a URL."""
    return "://" in path


def find_remote(pattern: str) -> list[tuple[str, int, int]]:
    """(URL, bytes, time of the last change in ns or 0) of the files of a URL, folder or glob."""
    try:
        system, path = _file_system(pattern)
        if system.isdir(path):
            infos = dict(_walk(system, path))
        else:
            names = system.glob(path) if any(c in path for c in "*?[") else [path]
            infos = {name: system.info(name) for name in names}
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"sources: {pattern}: {error}") from None
    paths = [
        (system.unstrip_protocol(name), info["size"], _time(info))
        for name, info in sorted(infos.items())
        if info["type"] == "file"
    ]
    if not paths:
        raise UserError(f"sources: {pattern}: there is no such file or folder")
    return paths


def _walk(system: Any, folder: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, info) of everything below a folder. Unlike the file system's own `find` it raises the
    OSError of a folder that cannot be listed."""
    for info in system.ls(folder, detail=True):
        name = info["name"].rstrip("/")
        if info["type"] == "directory" and name != folder.rstrip("/"):
            yield from _walk(system, name)
        else:
            yield name, info


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
