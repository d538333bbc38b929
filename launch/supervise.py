"""Keep a job alive: start it again from its newest checkpoint when ranks are lost.

Paddle's launcher ends the whole node when one rank dies and starts nothing again unless its master
is an etcd. So the restart is done here, around the launcher. A restart that got further than the
one before does not count against the limit: a long job on nodes that fail now and then goes on.
"""

import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

# Exit codes after which a restart would only do the same again, or is not wanted.
USER_ERROR = 2
SAVED_AND_STOPPED = 75  # EX_TEMPFAIL: saved on SIGTERM; may be started again later
NOT_FINITE = 76  # the loss stayed non-finite; the same data would do it again
FINAL = {0, USER_ERROR, SAVED_AND_STOPPED, NOT_FINITE}

MARKER = "complete.json"  # written last into a checkpoint; without it there is none
CHECKPOINT = re.compile(r"step-(\d+)$")


@dataclass
class Supervisor:
    """Runs `command` until it ends for good.

    Args:
        command: the launcher's words for this node.
        environment: the whole environment of the process.
        checkpoints: folder with `step-N/`, complete ones holding the marker.
        max_restarts: restarts in a row without a newer checkpoint.
        pause: seconds before a restart, so that ports and memory are given back.
        say: where messages go.
    """

    command: list[str]
    environment: dict[str, str]
    checkpoints: Path
    max_restarts: int = 3
    pause: float = 5.0
    say: Callable[[str], None] = print
    _process: subprocess.Popen | None = field(default=None, init=False)
    _stopping: bool = field(default=False, init=False)

    def run(self) -> int:
        """The exit code of the last try."""
        before = {sig: signal.signal(sig, self._stop) for sig in (signal.SIGTERM, signal.SIGINT)}
        try:
            return self._run()
        finally:
            for sig, handler in before.items():
                signal.signal(sig, handler)

    def newest_step(self) -> int:
        """Step of the newest complete checkpoint, -1 when there is none."""
        steps = [
            int(CHECKPOINT.search(path.parent.name).group(1))
            for path in self.checkpoints.glob(f"step-*/{MARKER}")
        ]
        return max(steps, default=-1)

    def _run(self) -> int:
        restarts = 0
        while True:
            began_at = self.newest_step()
            self._process = subprocess.Popen(self.command, env=self.environment)
            code = self._process.wait()
            if self._stopping:
                return self._stopped(code)
            if code in FINAL:
                return code
            reached = self.newest_step()
            restarts = 1 if reached > began_at else restarts + 1
            where = f"checkpoint of step {reached}" if reached >= 0 else "the beginning"
            if restarts > self.max_restarts:
                self.say(
                    f"ended with {code}, {self.max_restarts} restarts brought no new checkpoint"
                )
                return code
            self.say(
                f"ended with {code}; restart {restarts} of {self.max_restarts} from {where} "
                f"in {self.pause:.0f} s"
            )
            time.sleep(self.pause)
            if self._stopping:
                return self._stopped(code)

    def _stopped(self, code: int) -> int:
        """The launcher ends with the signal's number, whatever its ranks did."""
        return SAVED_AND_STOPPED if self.newest_step() >= 0 else code

    def _stop(self, signum: int, _frame) -> None:
        self._stopping = True
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signum)
