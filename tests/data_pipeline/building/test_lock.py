import errno
import fcntl
import os
import platform

import pytest

from data_pipeline.base.errors import UserError
from data_pipeline.building.lock import locked


def test_a_directory_is_held_once(tmp_path):
    with locked(tmp_path), pytest.raises(UserError, match=f"process {os.getpid()} on"):  # noqa: SIM117
        with locked(tmp_path):
            pass
    with locked(tmp_path):
        pass


def refused(*_):
    """flock on a file system that has no locks."""
    raise OSError(errno.ENOTSUP, "Operation not supported")


@pytest.fixture
def without_flock(monkeypatch):
    """A file system that has no locks."""
    monkeypatch.setattr(fcntl, "flock", refused)


def test_a_file_system_without_locks(tmp_path, without_flock):
    with locked(tmp_path), pytest.raises(UserError, match=f"process {os.getpid()} on"):  # noqa: SIM117
        with locked(tmp_path):
            pass
    assert not (tmp_path / ".lock-owner").exists()
    with locked(tmp_path):
        pass


def test_the_lock_file_of_a_process_that_has_ended_does_not_count(tmp_path, without_flock):
    (tmp_path / ".lock-owner").write_text(f"process 999999999 on {platform.node()}")
    with locked(tmp_path):
        pass
    (tmp_path / ".lock-owner").write_text("process 1 on another-host")
    with (
        pytest.raises(UserError, match=r"another-host \(if it has ended, remove"),
        locked(tmp_path),
    ):
        pass


def test_a_full_disk_does_not_matter_to_a_lock(tmp_path, monkeypatch):
    """The name of the owner cannot be written; /dev/full stands for the file."""
    (tmp_path / ".lock").symlink_to("/dev/full")
    with locked(tmp_path):
        pass


def test_a_full_disk_does_not_matter_where_there_are_no_locks_either(
    tmp_path, without_flock, monkeypatch
):
    """Then the file that stands for the lock is there, but says nothing."""
    original = os.fdopen

    def full(descriptor, *arguments):
        os.close(descriptor)
        return original(os.open("/dev/full", os.O_WRONLY), *arguments)

    monkeypatch.setattr(os, "fdopen", full)
    with locked(tmp_path):
        monkeypatch.undo()
        monkeypatch.setattr(fcntl, "flock", refused)
        with pytest.raises(UserError, match=r"another process \(if it has ended, remove"):  # noqa: SIM117
            with locked(tmp_path):
                pass
    assert not (tmp_path / ".lock-owner").exists()
