"""POST /predict: bytes in, bytes out."""

import logging

from pydantic_core import to_json
from starlette.responses import JSONResponse, Response

from data_pipeline.base.errors import UserError
from finetune.recipes import ServeRecipe
from finetune.serve.batcher import Batcher, BusyError
from finetune.serve.metrics import Metrics
from finetune.serve.parsing import RequestError, check, parse

LOG = logging.getLogger("finetune.serve")
PATH = "/predict"


class PredictEndpoint:
    """ASGI application that answers POST /predict and leaves everything else to `others`.

    FastAPI only describes this path: its dependencies and the validation of every answer take as
    long as a small model computes.
    """

    def __init__(self, others, batcher: Batcher, metrics: Metrics, settings: ServeRecipe):
        self.others, self.batcher, self.metrics = others, batcher, metrics
        self.settings = settings

    async def __call__(self, scope, receive, send):
        """The body is whole already."""
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST":
            await self.others(scope, receive, send)
            return
        body = (await receive())["body"]
        response = await self.respond(scope["headers"], body)
        await response(scope, receive, send)

    async def respond(self, headers: list[tuple[bytes, bytes]], body: bytes) -> Response:
        """The answer, or the reason why there is none."""
        try:
            predictions = await self._predictions(headers, body)
            content = to_json({"predictions": predictions}, inf_nan_mode="null")
        except RequestError as error:
            return refusal(error)
        except Exception as error:
            return failure("POST", PATH, error)
        return Response(content, media_type="application/json")

    async def _predictions(self, headers: list[tuple[bytes, bytes]], body: bytes) -> list:
        request = parse(headers, body)
        check(request, self.settings)
        try:
            with self.metrics.request_seconds.time():
                return await self.batcher.predict(request.texts, request.pairs)
        except BusyError:
            reason = "the service is stopping" if self.batcher.closing else "too many texts wait"
            raise RequestError(503, f"{reason}; try again later") from None
        except UserError as error:
            raise RequestError(400, str(error)) from None


def refusal(error: RequestError) -> JSONResponse:
    """The answer that says why."""
    headers = {"Retry-After": "1"} if error.status == 503 else None
    return JSONResponse({"error": str(error)}, error.status, headers)


def failure(method: str, path: str, error: Exception) -> JSONResponse:
    """The answer to a request on which the service failed; its log gets the trace."""
    LOG.error("%s %s failed", method, path, exc_info=error)
    return JSONResponse({"error": "the service failed; its log says why"}, 500)
