"""A node's connection to the server on node 0."""

import socket
import time
from collections.abc import Callable

from launch.nodes import addresses
from launch.nodes.messages import LONGEST_LINE, Alive, Join, Message, decode, encode
from launch.nodes.server import ALIVE_SECONDS, LOST_SECONDS

RETRY_SECONDS = 1.0
REPORT_SECONDS = 30.0


class Lost(Exception):
    """The connection has ended, or the server has been silent for too long."""


class Client:
    """Connected and joined; `poll` must be called at least every few seconds."""

    def __init__(self, connection: socket.socket, join: Join):
        self._socket = connection
        self._input = b""
        self._heard_at = time.monotonic()
        self._told_at = 0.0
        self.answered = False
        """Whether a message of node 0 has come: something else may listen at its port."""
        self.send(join)

    @classmethod
    def try_to_connect(cls, master: addresses.Master, join: Join) -> "Client | str":
        """A client, or why there is none (yet)."""
        candidates = addresses.resolve(master.host)
        if not candidates:
            return f"the name {master.host} has no address"
        reason = ""
        for address in candidates:
            try:
                connection = socket.create_connection((address, master.port), timeout=5.0)
                return cls(connection, join)
            except OSError as error:
                reason = f"{address}:{master.port}: {error.strerror or error}"
        return reason

    def send(self, message: Message) -> None:
        """Raises Lost."""
        try:
            self._socket.sendall(encode(message))
        except OSError as error:
            raise Lost(str(error)) from None
        self._told_at = time.monotonic()

    def poll(self, seconds: float) -> list[object]:
        """Messages that have come, after at most `seconds`.

        Raises:
            Lost: see there.
        """
        self._socket.settimeout(seconds)
        messages: list[object] = []
        try:
            data = self._socket.recv(LONGEST_LINE)
            if not data:
                raise Lost("node 0 has closed the connection")
            self._heard_at = time.monotonic()
            *lines, self._input = (self._input + data).split(b"\n")
            messages = [decode(line) for line in lines]
            self.answered = self.answered or bool(messages)
        except TimeoutError:
            pass
        except (OSError, ValueError) as error:
            raise Lost(str(error)) from None
        now = time.monotonic()
        if now - self._heard_at > LOST_SECONDS:
            raise Lost(f"node 0 has been silent for {LOST_SECONDS:.0f} s")
        self._socket.settimeout(5.0)
        if now - self._told_at >= ALIVE_SECONDS:
            self.send(Alive())
        return messages

    def close(self) -> None:
        """Leave."""
        self._socket.close()


def connect(
    master: addresses.Master,
    join: Join,
    seconds: float,
    is_stopped: Callable[[], bool],
    report: Callable[[str], None],
) -> Client | str:
    """Try until `seconds` have passed or a stop is asked for; a client, or the last reason."""
    deadline = time.monotonic() + seconds
    report_at = time.monotonic() + 2 * RETRY_SECONDS
    while True:
        client = Client.try_to_connect(master, join)
        now = time.monotonic()
        if isinstance(client, Client) or now >= deadline or is_stopped():
            return client
        if now >= report_at:
            report(f"waiting for node 0 at {master} for at most {deadline - now:.0f} s ({client})")
            report_at = now + REPORT_SECONDS
        time.sleep(RETRY_SECONDS)
