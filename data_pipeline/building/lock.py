"""One process builds in a directory at a time."""

import contextlib
import errno
import fcntl
import os
import platform
from collections.abc import Iterator
from pathlib import Path

import psutil

from data_pipeline.base.errors import UserError

WITHOUT_LOCKS = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL}


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the directory for this process; UserError when another one holds it.

    The lock ends with the process, however that ends. Where the file system has no locks, a file
    that names host and process stands in for one.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = (directory / ".lock").open("a+")
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"output_dir: {directory} is, or lies below, a file") from None
    except OSError as error:
        raise UserError(f"output_dir: {directory}: {error.strerror}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise _held(directory, _owner(file)) from None
            with _lock_file(directory):
                yield
            return
        with contextlib.suppress(OSError):  # who holds it is a courtesy: a disk may be full
            file.truncate(0)
            file.write(_this_process())
            file.flush()
        yield


@contextlib.contextmanager
def _lock_file(directory: Path) -> Iterator[None]:
    path = directory / ".lock-owner"
    while True:
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            break
        except FileExistsError:
            owner = path.read_text() or "another process"
            if not _has_ended(owner):
                raise _held(directory, f"{owner} (if it has ended, remove {path})") from None
            path.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"output_dir: {path}: {error.strerror}") from None
    try:
        with contextlib.suppress(OSError), os.fdopen(descriptor, "w") as file:
            file.write(_this_process())
        yield
    finally:
        path.unlink(missing_ok=True)


def _this_process() -> str:
    return f"process {os.getpid()} on {platform.node()}"


def _has_ended(owner: str) -> bool:
    """Whether the owner was a process of this machine that is no more."""
    match owner.split():
        case ["process", number, "on", host] if host == platform.node():
            return not psutil.pid_exists(int(number))
    return False


def _owner(file) -> str:
    file.seek(0)
    return file.read().strip() or "another process"


def _held(directory: Path, owner: str) -> UserError:
    return UserError(
        f"output_dir: {directory} is being built by {owner}; wait for it, or set another directory"
    )
