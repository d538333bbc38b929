"""Fewer system calls for an answer."""

import asyncio


class JoinedWrites:
    """A transport that sends all that is written in one turn of the loop at once.

    uvicorn writes head and body of an answer one after the other, and each would be a system call
    and a packet, which take longer than all else that is done for a small answer.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop):
        self._transport, self._loop = transport, loop
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Send it after this turn."""
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)

    def close(self) -> None:
        """Send what was written, then end the connection."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._parts:
            data = b"".join(self._parts)
            self._parts.clear()
            self._transport.write(data)

    def __getattr__(self, name: str):
        return getattr(self._transport, name)
