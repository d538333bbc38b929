"""Exit codes of a training run, and how a rank tells its supervisor the one that it ends with.

Paddle's launcher ends the other ranks when one fails, and then passes on the code of the rank with
the lowest number, which is often the one that it has just killed. So every rank that ends by itself
also writes its code, and its message, into a directory that the supervisor names in the environment
variable `DIRECTORY_VARIABLE`.
"""

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

FINISHED = 0
USER_ERROR = 2  # the message says what to change; the same command would fail again
UNREACHABLE = 69  # EX_UNAVAILABLE: another node did not come in time; may be started again
SAVED_AND_STOPPED = 75  # EX_TEMPFAIL: stopped on request; start again to continue
NOT_FINITE = 76  # too many steps in a row without a finite gradient
HUNG = 124  # a step took too long; what `timeout` ends with

# The most telling first: after these a restart would do the same again, or is not wanted.
FINAL = (USER_ERROR, NOT_FINITE, SAVED_AND_STOPPED)
DIRECTORY_VARIABLE = "PPMINILM_EXIT_CODES"


@dataclass(frozen=True)
class RankExit:
    """How a rank ended."""

    code: int
    message: str = ""
    """For a user's error, what was wrong."""


def record(code: int, message: str = "") -> None:
    """Tell the supervisor, if there is one, how this rank ends."""
    directory = os.environ.get(DIRECTORY_VARIABLE)
    if directory:
        rank = os.environ.get("PADDLE_TRAINER_ID", "0")
        with contextlib.suppress(OSError):  # the launcher's own code remains
            path = Path(directory) / f"rank-{rank}.json"
            path.write_text(json.dumps(asdict(RankExit(code, message))), encoding="utf-8")


def recorded(directory: Path) -> list[RankExit]:
    """How the ranks have ended, those that recorded it."""
    ends = []
    for path in sorted(directory.glob("rank-*.json")):
        with contextlib.suppress(ValueError, TypeError):  # killed while it wrote
            ends.append(RankExit(**json.loads(path.read_text(encoding="utf-8"))))
    return ends


def exit_of_node(launcher_code: int, ranks: list[RankExit]) -> RankExit:
    """How a node ended whose launcher ended with `launcher_code`: as the first of its ranks with
    the first of `FINAL` that any has, otherwise with the launcher's code."""
    for code in FINAL:
        for rank in ranks:
            if rank.code == code:
                return rank
    return RankExit(launcher_code % 256)
