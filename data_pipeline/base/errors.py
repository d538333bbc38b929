"""Errors that are for the person at the keyboard, and the one place that prints them."""

import functools
import signal
import sys
from collections.abc import Callable

from data_pipeline.base import exits
from data_pipeline.base.exits import USER_ERROR

EXTRAS = {  # optional modules, and the extras of pyproject.toml of which each brings it
    "paddle": ("cpu", "gpu"),
    "fastapi": ("serve",),
    "uvicorn": ("serve",),
    "httptools": ("serve",),
    "uvloop": ("serve",),
    "prometheus_client": ("serve",),
    "optuna": ("search",),
    "distributed": ("cluster",),
    "lingua": ("language",),
}
INTERRUPTED = 130  # 128 + SIGINT, what a shell reports


class UserError(Exception):
    """A mistake of the user: the message says what is wrong, where, and what would be right.

    `exit_code` is what the process ends with when nobody catches the error.
    """

    def __init__(self, message: str, exit_code: int = USER_ERROR):
        super().__init__(message)
        self.exit_code = exit_code


def command(main: Callable[..., int | None]) -> Callable[..., int]:
    """Wrap a `main(argv)` so that a UserError is one message and an exit code, not a stack trace.

    So is an optional library that is not installed. Any other exception is a fault of ours and
    keeps its trace.
    """

    @functools.wraps(main)
    def wrapper(*args, **kwargs) -> int:
        try:
            code = main(*args, **kwargs) or 0
            exits.record(code)
            return code
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            exits.record(error.exit_code, str(error))
            return error.exit_code
        except ModuleNotFoundError as error:
            extras = EXTRAS.get((error.name or "").split(".")[0])
            if extras is None:
                raise
            ways = " or ".join(f"pip install 'ppminilm-fleet[{extra}]'" for extra in extras)
            message = f"{error.name} is not installed: {ways}"
            print(f"error: {message}", file=sys.stderr)
            exits.record(USER_ERROR, message)
            return USER_ERROR
        except KeyboardInterrupt:
            # Nothing is left to interrupt: another Ctrl-C while Python ends would change the code.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            print("interrupted; run the same command again to continue", file=sys.stderr)
            return INTERRUPTED

    return wrapper
