"""What all nodes of a run do next: a pure function of what they report and of the time.

    gather    wait until every node has joined, then compare them
    train     every node runs Paddle's launcher
    halt      a node failed or was lost: the others stop their launcher and say so
    pause     before the next start
    end       every node ends with the same exit code and the same reason

A node whose connection ends is lost; it may join again, as the same number, until `rejoin_seconds`
have passed. Times are in seconds of any clock that only goes forward.
"""

from dataclasses import dataclass, field
from enum import Enum

from data_pipeline.base.exits import FINAL, FINISHED, UNREACHABLE, USER_ERROR
from launch.nodes.messages import End, Ended, Halt, Join, Message, Start
from launch.restarts import Restarts


class Phase(Enum):
    """See the module."""

    GATHER = "gather"
    TRAIN = "train"
    HALT = "halt"
    PAUSE = "pause"
    END = "end"


@dataclass
class Limits:
    """How long the nodes wait for each other, in seconds."""

    join_seconds: float = 600.0
    """From the start until all nodes have joined."""
    rejoin_seconds: float = 600.0
    """From the loss of a node until it is back."""


@dataclass
class Coordinator:
    """The state of the nodes. Each event returns the messages to send, by node number."""

    nnodes: int
    limits: Limits
    restarts: Restarts
    phase: Phase = Phase.GATHER
    members: dict[int, Join] = field(default_factory=dict)
    ended: dict[int, int] = field(default_factory=dict)
    """Exit codes of the launchers of this start."""
    reasons: dict[int, str] = field(default_factory=dict)
    """What the ranks of a node have said, in this start."""
    attempt: int = 0
    end: End | None = None
    deadline: float | None = None
    """Of the phase; None before the first event."""
    step_at_start: int = -1
    newest_step: int = -1
    failure: End | None = None
    """Why the nodes stop."""

    def join(self, node: int, info: Join, now: float) -> dict[int, Message]:
        """A node has connected. `node` is its number, free at this time."""
        self.members[node] = info
        self.newest_step = max(self.newest_step, info.newest_step)
        if self.end is not None:
            return {node: self.end}
        if self.phase is Phase.HALT:  # it is back while the others still stop: nothing runs there
            self.ended[node] = UNREACHABLE
        return self.tick(now)

    def free_number(self, info: Join) -> int | None:
        """The number for a node that joins: the one that it asks for, or the lowest free one; None
        when there is none."""
        numbers = range(self.nnodes) if info.node < 0 else [info.node]
        return next((n for n in numbers if n < self.nnodes and n not in self.members), None)

    def lose(self, node: int, now: float) -> dict[int, Message]:
        """The connection to a node has ended, or the node has been silent for too long."""
        if self.members.pop(node, None) is None or self.end is not None:
            return {}
        if self.phase is Phase.TRAIN:
            return self._halt(End(UNREACHABLE, f"node {node} was lost"), now)
        if self.phase is Phase.PAUSE:
            self.phase, self.deadline = Phase.GATHER, now + self.limits.rejoin_seconds
        return self.tick(now)

    def launcher_ended(self, node: int, report: Ended, now: float) -> dict[int, Message]:
        """A node's launcher has ended."""
        if report.attempt != self.attempt or self.phase not in (Phase.TRAIN, Phase.HALT):
            return {}
        self.ended[node] = report.code
        if report.reason:
            self.reasons[node] = report.reason
        self.newest_step = max(self.newest_step, report.newest_step)
        if self.phase is Phase.TRAIN and report.code != FINISHED:
            reason = f"node {node}: {report.reason or f'ended with exit code {report.code}'}"
            return self._halt(End(report.code, reason), now)
        return self.tick(now)

    def tick(self, now: float) -> dict[int, Message]:
        """Whatever is due now."""
        if self.deadline is None:
            self.deadline = now + self.limits.join_seconds
        match self.phase:
            case Phase.GATHER:
                return self._gather(now, self.deadline)
            case Phase.TRAIN if len(self.ended) == self.nnodes:
                return self._finish(FINISHED, "")
            case Phase.HALT if all(node in self.ended for node in self.members):
                return self._after_halt(now)
            case Phase.PAUSE if now >= self.deadline:
                return self._start()
        return {}

    def missing(self) -> list[int]:
        """Numbers of the nodes that have not joined."""
        return [node for node in range(self.nnodes) if node not in self.members]

    def _gather(self, now: float, deadline: float) -> dict[int, Message]:
        missing = self.missing()
        if missing and now >= deadline:
            names = ", ".join(str(node) for node in missing)
            return self._finish(UNREACHABLE, f"node(s) {names} did not come in time")
        if missing:
            return {}
        problems = [
            f"node {node} ({info.host}): {problem}"
            for node, info in sorted(self.members.items())
            for problem in [*info.problems, *differences(self.members[0], info)]
        ]
        return self._finish(USER_ERROR, "\n".join(problems)) if problems else self._start()

    def _start(self) -> dict[int, Message]:
        self.attempt += 1
        self.phase, self.ended, self.reasons = Phase.TRAIN, {}, {}
        self.step_at_start = self.newest_step
        return {node: Start(self.attempt, node) for node in self.members}

    def _halt(self, failure: End, now: float) -> dict[int, Message]:
        self.phase, self.failure = Phase.HALT, failure
        halt = Halt(self.attempt, failure.reason)
        others: dict[int, Message] = {node: halt for node in self.members if node not in self.ended}
        return others or self.tick(now)

    def _after_halt(self, now: float) -> dict[int, Message]:
        """All that are here have stopped: end for good, or start again."""
        assert self.failure is not None
        for code in FINAL:
            if code in self.ended.values():
                return self._finish(code, self._reason_of(code) or self.failure.reason)
        pause = self.restarts.after_failure(self.newest_step > self.step_at_start)
        if pause is None:
            return self._finish(
                self.failure.code,
                f"{self.failure.reason}; {self.restarts.limit} restarts brought no new checkpoint",
            )
        if self.missing():
            self.phase, self.deadline = Phase.GATHER, now + self.limits.rejoin_seconds
        else:
            self.phase, self.deadline = Phase.PAUSE, now + pause
        return self.tick(now)

    def _reason_of(self, code: int) -> str:
        """What the nodes that ended with a code say: one of them may only know that another has
        failed."""
        return "\n".join(
            f"node {node}: {reason}"
            for node, reason in sorted(self.reasons.items())
            if self.ended.get(node) == code
        )

    def _finish(self, code: int, reason: str) -> dict[int, Message]:
        self.phase, self.end = Phase.END, End(code, reason)
        return {node: self.end for node in self.members}


def differences(first: Join, other: Join) -> list[str]:
    """What two nodes must have in common and have not."""
    texts = []
    if other.versions != first.versions:
        names = sorted(
            name
            for name in first.versions.keys() | other.versions.keys()
            if first.versions.get(name) != other.versions.get(name)
        )
        texts += [
            f"has {name} {other.versions.get(name, 'missing')}, node 0 has "
            f"{first.versions.get(name, 'missing')}; install the same version on all nodes"
            for name in names
        ]
    if other.recipe_sha256 != first.recipe_sha256:
        texts.append("was started with another recipe than node 0; copy the same file to all nodes")
    if other.nproc_per_node != first.nproc_per_node:
        texts.append(
            f"was started with --nproc_per_node {other.nproc_per_node}, node 0 with "
            f"{first.nproc_per_node}; use the same number on all nodes"
        )
    return texts
