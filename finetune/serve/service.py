"""Run the service until it is told to stop."""

import asyncio
import json

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from finetune.deploy.predict import Predictor
from finetune.recipes import ServeRecipe
from finetune.serve.app import create_app


def run_service(recipe: ServeRecipe) -> str:
    """Serve until SIGINT or SIGTERM; accepted requests are answered before it ends."""
    predictor = Predictor(recipe.model, recipe.threads, recipe.max_batch)
    predictor.predict(["。"])  # the first call allocates memory and is slow
    uvicorn.run(
        create_app(predictor, recipe),
        host=recipe.host,
        port=recipe.port,
        log_level="info",
        http=protocol(recipe.request_seconds),
        ws="none",  # nothing here speaks it
        timeout_keep_alive=recipe.keep_alive_seconds,
        timeout_graceful_shutdown=recipe.stop_seconds,
    )
    return f"served {recipe.model}"


def protocol(seconds: float) -> type[H11Protocol]:
    """uvicorn's HTTP protocol; closes connections on which a request has no whole head in time, and
    answers what is no HTTP in the shape of all errors.

    uvicorn itself limits only the time between two requests, up to the first byte of the second.
    """

    class TimedProtocol(H11Protocol):
        deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport):
            super().connection_made(transport)
            self._limit_head()

        def data_received(self, data):
            super().data_received(data)
            self._limit_head()

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
            body = json.dumps({"error": msg}).encode()
            fields = {
                "content-type": "application/json",
                "content-length": str(len(body)),
                "connection": "close",
            }
            answer = h11.Response(
                status_code=400, headers=list(fields.items()), reason="Bad Request"
            )
            for event in (answer, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event))
            self.transport.close()

    return TimedProtocol
