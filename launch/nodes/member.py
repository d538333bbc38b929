"""One node of several: connects to node 0, and runs Paddle's launcher when all nodes start."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from data_pipeline.base import exits
from data_pipeline.base.errors import UserError
from launch.launcher import Launcher
from launch.nodes import addresses
from launch.nodes.client import Client, Lost, connect
from launch.nodes.coordinator import Coordinator, Limits
from launch.nodes.messages import End, Ended, Halt, Join, Refused, Start
from launch.nodes.server import Server
from launch.restarts import Restarts
from launch.supervise import POLL_SECONDS, Stopping, StopRequest, newest_step, wait_unless_stopped

HALT_SECONDS = 10.0  # for ranks to end by themselves when another node has ended
RETRY_SECONDS = 5.0  # before asking again for a number that is taken


@dataclass
class Attempt:
    """One start of the launcher on this node."""

    number: int
    launcher: Launcher
    stopping: Stopping
    kill_at: float | None = None

    def halt(self) -> None:
        """Another node has ended: give the ranks here a moment to end by themselves."""
        self.kill_at = time.monotonic() + HALT_SECONDS

    def advance(self) -> exits.RankExit | None:
        """Do what is due; how the node ended, or None."""
        self.stopping.advance()
        if self.kill_at is not None and time.monotonic() >= self.kill_at:
            self.launcher.kill()
        return self.launcher.poll()

    def kill(self) -> None:
        """End it at once."""
        self.launcher.kill()
        self.launcher.poll()


@dataclass
class Member:
    """Supervises this node until the run ends on all nodes.

    Args:
        master: where the nodes meet.
        nnodes: how many they are.
        join: what this node tells the others.
        command: the launcher's command line for a start.
        environment: the whole environment of the launcher.
        checkpoints: folder with `step-N/`.
        restarts: how often, and after which pauses; node 0's decides.
        limits: how long nodes wait for each other; node 0's decides once it is there.
        grace_seconds: time for the ranks to save after SIGTERM.
        report: where messages go.
    """

    master: addresses.Master
    nnodes: int
    join: Join
    command: Callable[[Start], list[str]]
    environment: dict[str, str]
    checkpoints: Path
    restarts: Restarts = field(default_factory=lambda: Restarts(3))
    limits: Limits = field(default_factory=Limits)
    grace_seconds: float = 120.0
    report: Callable[[str], None] = print
    _refused_at: float | None = field(default=None, init=False)

    def supervise(self) -> int:
        """The exit code of the run, the same on all nodes."""
        with StopRequest() as stop, self._server():
            seconds, began = self.limits.join_seconds, time.monotonic()
            while True:
                join = replace(self.join, newest_step=newest_step(self.checkpoints))
                left = began + seconds - time.monotonic()
                client = connect(self.master, join, left, lambda: stop.count > 0, self.report)
                if stop.count:
                    return exits.SAVED_AND_STOPPED
                if not isinstance(client, Client):
                    return self._unreachable(seconds, client)
                try:
                    code = self._follow(client, stop)
                except Lost as error:
                    if stop.count:
                        return exits.SAVED_AND_STOPPED
                    code = None
                    if not client.answered:
                        if time.monotonic() >= began + seconds:
                            reason = f"what listens there may be another program ({error})"
                            return self._unreachable(seconds, reason)
                        wait_unless_stopped(RETRY_SECONDS, stop)
                        continue
                    seconds, began = self.limits.rejoin_seconds, time.monotonic()
                    self.report(
                        f"lost node 0 ({error}); stopped, and waiting for it for at most "
                        f"{seconds:.0f} s"
                    )
                finally:
                    client.close()
                if code is not None:
                    return code

    def _unreachable(self, seconds: float, reason: str) -> int:
        self.report(f"node 0 at {self.master} did not answer within {seconds:.0f} s: {reason}")
        return exits.UNREACHABLE

    @contextlib.contextmanager
    def _server(self) -> Iterator[None]:
        """On node 0, the server."""
        is_first = self.join.node == 0 or (self.join.node < 0 and addresses.is_here(self.master))
        if not is_first:
            yield
            return
        coordinator = Coordinator(self.nnodes, self.limits, self.restarts)
        server = Server(self.master, coordinator, self.report)
        try:
            server.start()
        except OSError as error:
            if self.join.node < 0:  # another node of this machine is the first
                yield
                return
            raise UserError(
                f"--master: port {self.master.port} of this node cannot be used "
                f"({error.strerror}); choose another on all nodes, or end what uses it"
            ) from None
        self.join = replace(self.join, node=0)
        try:
            yield
        finally:
            server.close()

    def _follow(self, client: Client, stop: StopRequest) -> int | None:
        """Do what the server says; the exit code, or None to connect again.

        Raises:
            Lost: the connection has ended.
        """
        attempt: Attempt | None = None
        awaiting_end = False
        try:
            while not stop.count or attempt is not None or awaiting_end:
                for message in client.poll(POLL_SECONDS):
                    match message:
                        case Start():
                            self._refused_at = None
                            variables = addresses.variables_for(message.address)
                            launcher = Launcher(
                                self.command(message), {**self.environment, **variables}
                            )
                            stopping = Stopping(launcher, stop, self.grace_seconds)
                            attempt = Attempt(message.attempt, launcher, stopping)
                        case Halt() if attempt is not None:
                            self.report(f"stopping this node: {message.reason}")
                            attempt.halt()
                        case End():
                            if message.reason and self.join.node != 0:
                                self.report(message.reason)
                            return message.code
                        case Refused():
                            return self._refused(message, stop)
                if attempt is not None and (end := attempt.advance()) is not None:
                    awaiting_end = stop.count > 0
                    client.send(self._ended(attempt.number, end, awaiting_end))
                    attempt = None
            return exits.SAVED_AND_STOPPED
        finally:
            if attempt is not None:
                attempt.kill()

    def _ended(self, attempt: int, end: exits.RankExit, stopped: bool) -> Ended:
        code = end.code
        if stopped and code not in (exits.FINISHED, *exits.FINAL):
            code = exits.SAVED_AND_STOPPED
        return Ended(attempt, code, newest_step(self.checkpoints), end.message)

    def _refused(self, message: Refused, stop: StopRequest) -> int | None:
        now = time.monotonic()
        self._refused_at = self._refused_at or now
        if not message.may_retry or now - self._refused_at > self.limits.join_seconds:
            self.report(message.reason)
            return exits.USER_ERROR
        wait_unless_stopped(RETRY_SECONDS, stop)
        return None
