"""A rank that hangs is reported with the stacks of all ranks of its node, not waited for."""

import contextlib
import faulthandler
import os
import signal
import threading
import time

from data_pipeline.base.exits import HUNG

ASK_FOR_STACKS = signal.SIGUSR1
NEIGHBOURS_WRITE = 2.0  # seconds
STDERR = 2  # the process's own, whatever sys.stderr is now
LAST_RESORT = 30.0  # seconds after which a thread that needs no interpreter lock ends the process


SHORTEST_LIMIT = 300.0  # seconds; a checkpoint on a slow file system may take minutes
MEASURED_STEPS = 3  # before which the slowest step says little


class StepLimit:
    """How long a step may take: `seconds` at first, then `factor` times the slowest step so far,
    but at least SHORTEST_LIMIT and at most `seconds`. Without a factor always `seconds`."""

    def __init__(self, seconds: float, factor: float | None = None):
        self.seconds, self.factor = seconds, factor
        self._slowest, self._steps = 0.0, 0

    def measured(self, seconds: float) -> None:
        """One more step has ended, after so many seconds."""
        self._slowest = max(self._slowest, seconds)
        self._steps += 1

    @property
    def current(self) -> float:
        """Seconds that the next step may take."""
        if self.factor is None or self._steps < MEASURED_STEPS:
            return self.seconds
        return min(self.seconds, max(SHORTEST_LIMIT, self.factor * self._slowest))


class HangWatch:
    """Ends this process with code HUNG unless `touch` is called within the limit of a step.

    Whoever notices first asks the other ranks of its node for their stacks too: all of them wait
    in the same collective, but the one that it is about sits somewhere else. A stopped process is
    set going for it.

    neighbours: process ids of the other ranks on this node; each has a HangWatch.
    """

    def __init__(
        self, seconds: float, rank: int, neighbours: list[int], factor: float | None = None
    ):
        self.limit = StepLimit(seconds, factor)
        self.rank, self.neighbours = rank, neighbours
        self._touched: float | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="hang-watch", daemon=True)

    def __enter__(self) -> "HangWatch":
        faulthandler.register(ASK_FOR_STACKS, file=STDERR, all_threads=True)
        self.touch()
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._ended.set()
        faulthandler.cancel_dump_traceback_later()

    def touch(self) -> None:
        """A step begins: the one before has ended, count from here."""
        now = time.monotonic()
        if self._touched is not None:
            self.limit.measured(now - self._touched)
        self._touched = now
        allowed = self.limit.current
        self._deadline = now + allowed
        faulthandler.dump_traceback_later(allowed + LAST_RESORT, exit=True, file=STDERR)

    def _watch(self) -> None:
        while (left := self._deadline - time.monotonic()) > 0:
            if self._ended.wait(left):
                return
        self._report()
        os._exit(HUNG)

    def _report(self) -> None:
        message = (
            f"rank {self.rank}: a step has taken longer than {self.limit.current:.3g} s "
            "(safety.hang_seconds); the stacks of all ranks of this node are in their logs\n"
        )
        os.write(STDERR, message.encode())
        for process in self.neighbours:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)
                os.kill(process, ASK_FOR_STACKS)
        faulthandler.dump_traceback(file=STDERR, all_threads=True)
        time.sleep(NEIGHBOURS_WRITE)  # the launcher kills them as soon as this one has ended
