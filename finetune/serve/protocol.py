"""uvicorn's HTTP protocol, with limits for the heads of requests and JSON for what is no HTTP."""

import asyncio
import json

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from finetune.serve.transport import JoinedWrites

HEAD_BYTES = 1 << 16  # the parser itself would keep a head of any length


def protocol(seconds: float) -> type[HttpToolsProtocol]:
    """A protocol that closes connections on which a request has no whole head in `seconds`.

    uvicorn itself limits only the time between two requests, up to the first byte of the second.
    """

    class TimedProtocol(HttpToolsProtocol):
        parser: HttpRequestParser
        deadline: asyncio.TimerHandle | None = None
        unused = 0  # bytes that neither ended a head nor were of a body

        def connection_made(self, transport):
            super().connection_made(JoinedWrites(transport, self.loop))
            self._limit_head()

        def data_received(self, data):
            self.unused += len(data)
            self._unset_keepalive_if_required()
            try:
                self._parse(data)
            except HttpParserError:
                self.send_400_response("Invalid HTTP request received.")
            if self.unused > HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response(f"The head has more than {HEAD_BYTES} bytes.")
            self._limit_head()

        def _parse(self, data):
            rest = memoryview(data)
            while rest:
                try:
                    self.parser.feed_data(rest)
                    return
                except HttpParserUpgrade as stop:
                    if self.parser.get_method() == b"CONNECT":
                        raise HttpParserError from None  # this is no proxy
                    rest = rest[stop.args[0] :]
                    self._pass_over_upgrade()

        def _pass_over_upgrade(self):
            """Parse a head that offers another protocol again, as if it did not.

            The parser takes what follows such a head as that protocol, and the body would be lost;
            Java's client makes the offer with every body that it sends over a new connection.
            """
            line = (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
            fields = [b"%s: %s\r\n" % field for field in self.headers if field[0] != b"upgrade"]
            self.parser = HttpRequestParser(self)
            self.parser.feed_data(b"%s %s HTTP/%s\r\n" % line + b"".join(fields) + b"\r\n")

        def on_headers_complete(self):
            self.unused = 0
            if not self.parser.should_upgrade():
                super().on_headers_complete()

        def on_body(self, body):
            self.unused = 0
            super().on_body(body)

        def on_message_complete(self):
            self.unused = 0
            if not self.parser.should_upgrade():
                super().on_message_complete()

        def connection_lost(self, exc):
            self._end_limit()
            super().connection_lost(exc)

        def _limit_head(self):
            if self.cycle is not None and not self.cycle.response_complete:
                self._end_limit()  # the head is whole; the body has a limit of its own
            elif self.deadline is None:
                self.deadline = self.loop.call_later(seconds, self._close)

        def _end_limit(self):
            if self.deadline is not None:
                self.deadline.cancel()
                self.deadline = None

        def _close(self):
            if not self.transport.is_closing():
                self.transport.close()

        def send_400_response(self, msg):
            body = json.dumps({"error": msg})
            head = (
                "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write((head + body).encode())
            self.transport.close()

    return TimedProtocol
