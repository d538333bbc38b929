"""This process among the ranks of a run, as the launcher has arranged it. Imports no Paddle."""

import ctypes
import os
import signal
import sys

from data_pipeline.loading.order import World


def current() -> World:
    """From the launcher's environment; alone without it."""
    return World(
        int(os.environ.get("PADDLE_TRAINER_ID", "0")),
        int(os.environ.get("PADDLE_TRAINERS_NUM", "1")),
    )


def end_with_launcher() -> None:
    """Have the kernel end this process when its parent ends.

    Paddle's launcher puts each rank in a session of its own: when the launcher is killed, its ranks
    would train on, and write to the same directory as the next start.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
