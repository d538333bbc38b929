"""Keep a run going on one node: start it again from its newest checkpoint when ranks are lost.

Paddle's launcher ends all ranks of a node when one dies, and does not start them again unless its
master is an etcd server. So the restart is done here. `nodes.member` does the same for several
nodes together.
"""

import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from data_pipeline.base import exits
from launch.launcher import Launcher
from launch.restarts import Restarts

MARKER = "complete.json"  # written last into a checkpoint; without it the checkpoint is ignored
CHECKPOINT = re.compile(r"step-(\d+)$")
POLL_SECONDS = 0.1
# SIGURG too: Slurm signals every process of a step, and a process that does not handle SIGURG
# ignores it, so that it reaches the supervisors alone.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGURG)


def newest_step(checkpoints: Path) -> int:
    """Step of the newest complete checkpoint, -1 when there is none."""
    steps = [
        int(match.group(1))
        for path in checkpoints.glob(f"step-*/{MARKER}")
        if (match := CHECKPOINT.search(path.parent.name))
    ]
    return max(steps, default=-1)


class StopRequest:
    """Inside, SIGTERM, SIGINT and SIGURG are counted instead of ending the process."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> "StopRequest":
        self._before = {number: signal.signal(number, self._add) for number in STOP_SIGNALS}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _add(self, *_) -> None:
        self.count += 1


class Stopping:
    """The stop of a launcher: its ranks save, and after `grace_seconds` they are killed. A second
    signal kills at once."""

    def __init__(self, launcher: Launcher, stop: StopRequest, grace_seconds: float):
        self._launcher, self._stop = launcher, stop
        self._grace = grace_seconds
        self._deadline: float | None = None

    def advance(self) -> None:
        """To be called again and again while the launcher runs."""
        if self._stop.count == 0:
            return
        if self._deadline is None:
            self._deadline = time.monotonic() + self._grace
            self._launcher.ask_to_save()
        elif self._stop.count > 1 or time.monotonic() >= self._deadline:
            self._launcher.kill()


@dataclass
class Supervisor:
    """Runs Paddle's launcher until the run ends for good.

    Args:
        command: the launcher's command line.
        environment: the whole environment of the launcher.
        checkpoints: folder with `step-N/`, complete ones holding the marker.
        restarts: how often, and after which pauses.
        grace_seconds: time for the ranks to save after SIGTERM.
        report: where messages go.
    """

    command: list[str]
    environment: dict[str, str]
    checkpoints: Path
    restarts: Restarts = field(default_factory=lambda: Restarts(3))
    grace_seconds: float = 120.0
    report: Callable[[str], None] = print

    def supervise(self) -> int:
        """The exit code of the last start."""
        with StopRequest() as stop:
            while True:
                step_at_start = newest_step(self.checkpoints)
                code = self._wait(stop)
                if stop.count and code not in (exits.FINISHED, *exits.FINAL):
                    return exits.SAVED_AND_STOPPED
                if code in (exits.FINISHED, *exits.FINAL):
                    return code
                step = newest_step(self.checkpoints)
                pause = self.restarts.after_failure(step > step_at_start)
                if pause is None:
                    self.report(
                        f"ended with {code}, {self.restarts.limit} restarts brought no new "
                        "checkpoint"
                    )
                    return code
                where = f"checkpoint of step {step}" if step >= 0 else "the beginning"
                self.report(
                    f"ended with {code}; restart {self.restarts.in_a_row} of "
                    f"{self.restarts.limit} from {where} in {pause:.0f} s"
                )
                if not wait_unless_stopped(pause, stop):
                    return exits.SAVED_AND_STOPPED

    def _wait(self, stop: StopRequest) -> int:
        launcher = Launcher(self.command, self.environment)
        stopping = Stopping(launcher, stop, self.grace_seconds)
        while (end := launcher.poll()) is None:
            stopping.advance()
            time.sleep(POLL_SECONDS)
        return end.code


def wait_unless_stopped(seconds: float, stop: StopRequest) -> bool:
    """Wait; False as soon as a stop was asked for."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not stop.count:
        time.sleep(min(POLL_SECONDS, seconds))
    return not stop.count
