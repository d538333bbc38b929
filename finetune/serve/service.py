"""Run the service until it is told to stop."""

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
        timeout_keep_alive=recipe.keep_alive_seconds,
        timeout_graceful_shutdown=recipe.stop_seconds,
    )
    return f"served {recipe.model}"


def protocol(seconds: float) -> type[H11Protocol]:
    """uvicorn's HTTP protocol; closes connections whose first request has no whole head in time.

    uvicorn itself limits only the time between two requests.
    """

    class Impatient(H11Protocol):
        def connection_made(self, transport):
            super().connection_made(transport)
            self.loop.call_later(seconds, self._close_without_request)

        def _close_without_request(self):
            if self.cycle is None and not self.transport.is_closing():
                self.transport.close()

    return Impatient
