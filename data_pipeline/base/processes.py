"""Processes that end with the process that started them (Linux; elsewhere nothing is done).

As a program, `processes.py PARENT COMMAND...` runs a command that ends with process PARENT.
(Between fork and exec the parent could do the same, but not safely once it has threads.)
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

SUPERVISOR_VARIABLE = "PPMINILM_SUPERVISOR"  # process id of `python -m launch`, for its ranks
# OMP_NUM_THREADS of the ranks. Paddle's launcher itself is started with 1: it computes nothing, and
# with more it would print a warning.
THREADS_VARIABLE = "PPMINILM_OMP_NUM_THREADS"
_SET_DEATH_SIGNAL, _SET_CHILD_SUBREAPER = 1, 36  # PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def end_with_parent(number: int = signal.SIGKILL) -> None:
    """Ask the kernel to send this process signal `number` when its parent ends.

    To be called from the main thread. The signal is not sent for a parent that has ended before
    the call; see `end_with_launcher`.
    """
    if _libc is not None:
        _libc.prctl(_SET_DEATH_SIGNAL, int(number))


def end_with_launcher() -> None:
    """For a rank: end when Paddle's launcher ends, and at once if it has ended already.

    Call it before Paddle is imported: the import takes seconds, in which the launcher may be
    killed, and a rank without its launcher would wait for the others for hours.
    """
    if _libc is None or "PADDLE_TRAINER_ID" not in os.environ:
        return
    end_with_parent()
    if not _is_launcher(os.getppid()):
        print("the launcher of this rank has ended; so does the rank", file=sys.stderr, flush=True)
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends, so that they can be found."""
    if _libc is not None:
        _libc.prctl(_SET_CHILD_SUBREAPER, 1)


def take_threads() -> None:
    """For a rank: set OMP_NUM_THREADS to what the supervisor has passed by the launcher.

    Call it before Paddle is imported.
    """
    threads = os.environ.pop(THREADS_VARIABLE, None)
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = threads


def _is_launcher(process: int) -> bool:
    """Whether this process may be a rank's launcher. Orphans get init or a supervisor as parent; so
    below a supervisor, or when the parent is init, its command line must be a launcher's."""
    if process != 1 and SUPERVISOR_VARIABLE not in os.environ:
        return True
    try:
        words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(word in (b"paddle.distributed.launch", b"fleetrun") for word in words)


def tied_to_this_process(command: list[str]) -> list[str]:
    """The command line that runs `command` so that it ends with this process, started by its main
    thread."""
    return [sys.executable, __file__, str(os.getpid()), *command]


def _main(parent: str, *command: str) -> None:
    end_with_parent()
    if os.getppid() == int(parent):  # otherwise it ended before the line above
        os.execvp(command[0], command)  # the death signal survives


if __name__ == "__main__":
    _main(*sys.argv[1:])
