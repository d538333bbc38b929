"""Files that are either whole or not there."""

import contextlib
import hashlib
import json
import os
import platform
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def whole_file(path: Path, *, sync_folder: bool = True) -> Iterator[Path]:
    """Yield a temporary path next to `path`; on success sync it and rename it into place.

    On any error the temporary file is removed and `path` stays as it was. Without `sync_folder` the
    new name may be lost in a power failure until the caller has synced the folder: who writes
    several files waits for the disk once.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Host and random part: two machines that write the same file never share a temporary name.
    unique = f"{platform.node()}-{secrets.token_hex(6)}"
    temporary = path.with_name(f".{path.name}.{unique}.tmp")
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if sync_folder:
        sync(path.parent)


def write_atomically(path: Path, content: str | bytes, *, sync_folder: bool = True) -> None:
    """Write a small file whole; see `whole_file`."""
    with whole_file(path, sync_folder=sync_folder) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole, readable by people."""
    write_atomically(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def sync(path: Path) -> None:
    """Ask the operating system to put a file or a directory on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file, read in pieces."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
