"""The server on node 0: carries messages between the nodes and their `Coordinator`."""

import selectors
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from data_pipeline.base.exits import USER_ERROR
from launch.nodes import addresses
from launch.nodes.coordinator import Coordinator, Phase
from launch.nodes.messages import (
    LONGEST_LINE,
    Alive,
    End,
    Ended,
    Join,
    Message,
    Refused,
    Start,
    decode,
    encode,
)

TICK_SECONDS = 0.2
ALIVE_SECONDS = 5.0  # between two signs of life, in both directions
LOST_SECONDS = 30.0  # of silence, after which a peer is lost
REPORT_SECONDS = 30.0  # between two messages about nodes that are waited for


@dataclass
class Peer:
    """One connection."""

    socket: socket.socket
    heard_at: float
    node: int | None = None
    """Its number once it has joined."""
    input: bytes = b""
    info: Join | None = None

    @property
    def address(self) -> str:
        """Under which it has asked to be reached; empty when it has not."""
        return self.info.address if self.info is not None else ""


@dataclass
class Server:
    """Runs in a thread of node 0's supervisor, from `start` to `close`."""

    master: addresses.Master
    coordinator: Coordinator
    report: Callable[[str], None] = print
    lost_seconds: float = LOST_SECONDS
    peers: dict[socket.socket, Peer] = field(default_factory=dict, init=False)

    def start(self) -> None:
        """Listen.

        Raises:
            OSError: the port is taken.
        """
        address = addresses.address_to_bind(self.master)
        self._listener = socket.create_server((address, self.master.port))
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="nodes", daemon=True)
        self._thread.start()

    @property
    def own_address(self) -> str:
        """The address at which node 0 itself connects."""
        address = self._listener.getsockname()[0]
        return "127.0.0.1" if address == "0.0.0.0" else address

    def close(self, seconds: float = 10.0) -> None:
        """Stop once all nodes have closed their connections, or after `seconds`."""
        self._closing.set()
        self._thread.join(seconds)

    def _serve(self) -> None:
        alive_at = report_at = time.monotonic()
        while not (self._closing.is_set() and not self.peers):
            for key, _ in self._selector.select(TICK_SECONDS):
                if key.data is None:
                    self._accept()
                else:
                    self._read(key.data)
            now = time.monotonic()
            for peer in [p for p in self.peers.values() if now - p.heard_at > self.lost_seconds]:
                self._drop(peer, "it has been silent")
            self._send(self.coordinator.tick(now))
            if now - alive_at >= ALIVE_SECONDS:
                alive_at = now
                for peer in list(self.peers.values()):
                    self._write(peer, Alive())
            if now - report_at >= REPORT_SECONDS:
                report_at = now
                self._report_missing(now)
        self._listener.close()

    def _report_missing(self, now: float) -> None:
        state = self.coordinator
        missing = state.missing()
        if state.phase is Phase.GATHER and missing:
            left = max(0.0, (state.deadline or now) - now)
            names = ", ".join(str(node) for node in missing[:8])
            self.report(
                f"{len(state.members)} of {state.nnodes} nodes have joined; waiting for node(s) "
                f"{names}{', ...' if len(missing) > 8 else ''} for at most {left:.0f} s"
            )

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.settimeout(5.0)  # of writing; reading follows the selector
        peer = Peer(connection, time.monotonic())
        self.peers[connection] = peer
        self._selector.register(connection, selectors.EVENT_READ, data=peer)

    def _read(self, peer: Peer) -> None:
        try:
            data = peer.socket.recv(LONGEST_LINE)
        except OSError:
            data = b""
        if not data:
            self._drop(peer, "its connection has ended")
            return
        peer.heard_at = time.monotonic()
        *lines, peer.input = (peer.input + data).split(b"\n")
        try:
            if len(peer.input) > LONGEST_LINE:
                raise ValueError("a line without an end")
            messages = [decode(line) for line in lines]
        except ValueError as error:
            self._write(peer, Refused(f"node 0 runs another version of this project ({error})"))
            self._drop(peer, str(error))
            return
        for message in messages:
            self._handle(peer, message)

    def _handle(self, peer: Peer, message: Message) -> None:
        now = time.monotonic()
        match message:
            case Join() if peer.node is None:
                number = self.coordinator.free_number(message)
                if number is None:
                    self._write(peer, _refusal(message, self.coordinator.nnodes))
                    return
                peer.node, peer.info = number, message
                self._send(self.coordinator.join(number, message, now))
            case Ended() if peer.node is not None:
                self._send(self.coordinator.launcher_ended(peer.node, message, now))

    def _drop(self, peer: Peer, reason: str) -> None:
        if self.peers.pop(peer.socket, None) is None:
            return
        self._selector.unregister(peer.socket)
        peer.socket.close()
        if peer.node is not None and peer.info is not None:
            if self.coordinator.end is None:
                self.report(f"node {peer.node} ({peer.info.host}) was lost: {reason}")
            self._send(self.coordinator.lose(peer.node, time.monotonic()))

    def _send(self, messages: dict[int, Message]) -> None:
        """To nodes by number; what Paddle needs to meet is filled into each `Start`."""
        if not messages:
            return
        by_node = {peer.node: peer for peer in self.peers.values() if peer.node is not None}
        meeting = ""
        if any(isinstance(message, Start) for message in messages.values()):
            master = self._address_of_node_0(by_node)
            try:
                meeting = f"{master}:{addresses.free_port(master)}"
            except OSError as error:
                reason = f"node 0 cannot listen at {master}: {error.strerror}; check its --host"
                messages = {node: End(USER_ERROR, reason) for node in messages}
        for node, message in messages.items():
            if isinstance(message, Start):
                own = master if node == 0 else self._address_of(by_node[node], master)
                message = replace(message, master=meeting, address=own)  # noqa: PLW2901
            if isinstance(message, End) and node == 0 and message.reason:
                self.report(message.reason)
            if node in by_node:
                self._write(by_node[node], message)

    @staticmethod
    def _address_of_node_0(by_node: dict[int, Peer]) -> str:
        """The address at which the others have reached node 0."""
        if by_node[0].address:
            return by_node[0].address
        reached = [peer.socket.getsockname()[0] for node, peer in by_node.items() if node != 0]
        return next((a for a in reached if not addresses.is_loopback(a)), "127.0.0.1")

    @staticmethod
    def _address_of(peer: Peer, master: str) -> str:
        own = peer.address or peer.socket.getpeername()[0]
        return master if addresses.is_loopback(own) else own

    def _write(self, peer: Peer, message: Message) -> None:
        try:
            peer.socket.sendall(encode(message))
        except OSError:
            peer.heard_at = float("-inf")  # dropped at the next turn, outside of any iteration


def _refusal(join: Join, nnodes: int) -> Refused:
    if join.node >= nnodes:
        return Refused(
            f"--node_rank {join.node} is too large: the {nnodes} nodes are 0 to {nnodes - 1}"
        )
    who = f"node {join.node}" if join.node >= 0 else f"all {nnodes} nodes"
    return Refused(f"{who} has already joined from another process", may_retry=True)
