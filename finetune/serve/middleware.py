"""What every request passes: a count of the answers, and the limits of a body."""

import asyncio

from starlette.responses import JSONResponse

from finetune.serve.metrics import Metrics

PATHS = ("/predict", "/health", "/metrics", "/docs", "/openapi.json")


class BodyReader:
    """ASGI middleware that reads a request's body before the service sees it, as one message.

    More than `max_bytes` gets 413, and a body that is not whole after `seconds` gets 408: slow
    clients hold no place in the queue.
    """

    def __init__(self, app, max_bytes: int, seconds: float):
        self.app, self.max_bytes, self.seconds = app, max_bytes, seconds

    async def __call__(self, scope, receive, send):
        """See the class."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self.seconds):
                body = await self._read(receive)
        except TimeoutError:
            reason = f"the body was not whole after {self.seconds:g} seconds"
            await _refuse(408, reason)(scope, receive, send)
            return
        except OverflowError:
            reason = f"the body has more than {self.max_bytes} bytes"
            await _refuse(413, reason)(scope, receive, send)
            return
        except EOFError:  # only the count sees the answer
            await _refuse(400, "the client left")(scope, receive, send)
            return
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay():
            return messages.pop() if messages else await receive()

        await self.app(scope, replay, send)

    async def _read(self, receive) -> bytes:
        parts, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise EOFError
            part = message.get("body", b"")
            size += len(part)
            if size > self.max_bytes:
                raise OverflowError
            more = message.get("more_body", False)
            parts.append(part)
        return b"".join(parts)


def _refuse(status: int, reason: str) -> JSONResponse:
    return JSONResponse({"error": reason}, status, {"Connection": "close"})


class RequestCounter:
    """ASGI middleware that counts requests by path and status."""

    def __init__(self, app, metrics: Metrics):
        self.app, self.metrics = app, metrics

    async def __call__(self, scope, receive, send):
        """See the class."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 500

        async def counted(message):
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self.app(scope, receive, counted)
        finally:
            path = scope["path"] if scope["path"] in PATHS else "other"
            self.metrics.requests_of(path, status).inc()
