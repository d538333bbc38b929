"""What libraries print at every start and tells a user nothing is kept off the screen."""

import contextlib
import re
import sys
from collections.abc import Iterator
from typing import TextIO

# What Paddle 3.3 prints without a level or a switch. Whole lines; anything else passes.
STARTUP_TALK = (
    r"WARNING: OMP_NUM_THREADS set to \d+, not 1\. The computation speed .*",
    r"PLEASE USE OMP_NUM_THREADS WISELY\.",
    r"=+ Modified FLAGS detected =+",
    r"FLAGS\(name='\w+', current_value=.*, default_value=.*\)",
    r"={71}",
)


FIRST_LETTERS = ("W", "P", "=", "F")


@contextlib.contextmanager
def without_startup_talk() -> Iterator[None]:
    """Inside, and in a function decorated with it, lines of `STARTUP_TALK` are left out of stderr,
    as far as Python writes it."""
    stream = WithoutStartupTalk(sys.stderr)
    try:
        with contextlib.redirect_stderr(stream):
            yield
    finally:
        stream.flush()


class WithoutStartupTalk:
    """A text stream that passes everything on to another, except lines of `STARTUP_TALK`."""

    def __init__(self, stream: TextIO):
        self._stream, self._pattern = stream, re.compile("|".join(STARTUP_TALK))
        self._held = ""  # the beginning of a line that may have to be left out

    def write(self, text: str) -> int:
        """Pass the text on; what may be the beginning of such a line, when its end is known."""
        for part in text.splitlines(keepends=True):
            line = self._held + part
            whole = line.endswith("\n")
            self._held = "" if whole or not line.startswith(FIRST_LETTERS) else line
            if not self._held and not self._pattern.fullmatch(line.rstrip("\n")):
                self._stream.write(line)
        return len(text)

    def flush(self) -> None:
        """Pass on what has been held back, too."""
        self._stream.write(self._held)
        self._held = ""
        self._stream.flush()

    def __getattr__(self, name: str):
        return getattr(self._stream, name)
