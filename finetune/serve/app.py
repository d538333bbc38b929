"""The HTTP interface: POST /predict, GET /health, GET /metrics, and the OpenAPI page at /docs."""

import asyncio
import contextlib
import logging
from dataclasses import asdict

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from data_pipeline.base.errors import UserError
from finetune.deploy.predict import Predictor
from finetune.recipes import ServeRecipe
from finetune.serve.batcher import Batcher, BusyError
from finetune.serve.metrics import CONTENT_TYPE, Metrics

LOG = logging.getLogger("finetune.serve")
PATHS = ("/predict", "/health", "/metrics", "/docs", "/openapi.json")


class PredictRequest(BaseModel):
    """Texts, or pairs of texts, to be classified."""

    texts: list[str] = Field(min_length=1, examples=[["今天有雨"]])
    pairs: list[str] | None = Field(None, description="second sentences, for tasks on pairs")


class LabelPrediction(BaseModel):
    """One answer."""

    label: str
    probability: float
    probabilities: dict[str, float]


class ScorePrediction(BaseModel):
    """The answer of a model for scores."""

    score: float


class LabelsPrediction(BaseModel):
    """The answer of a model that gives a text any number of labels."""

    labels: list[str]
    probabilities: dict[str, float]


class EntityPrediction(BaseModel):
    """`text[start:end]` of the request's text is a `label`."""

    text: str
    label: str
    start: int
    end: int
    probability: float


class EntitiesPrediction(BaseModel):
    """The answer of a model for tokens."""

    entities: list[EntityPrediction]


class PredictResponse(BaseModel):
    """One answer a text, in order."""

    predictions: (
        list[LabelPrediction]
        | list[EntitiesPrediction]
        | list[ScorePrediction]
        | list[LabelsPrediction]
    )


class ErrorResponse(BaseModel):
    """Why a request was not answered."""

    error: str


class HealthResponse(BaseModel):
    """State of the service."""

    status: str
    labels: list[str]
    waiting: int
    answered: int
    calls: int


class RequestError(Exception):
    """A request that cannot be answered: an HTTP status and the reason."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status = status


def create_app(predictor: Predictor, settings: ServeRecipe) -> FastAPI:
    """The service; the batcher lives as long as the app's lifespan."""
    metrics = Metrics()
    batcher = Batcher(
        predictor, settings.max_batch, settings.window_ms / 1e3, settings.queue_limit, metrics
    )

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI):
        worker = asyncio.create_task(batcher.run())
        yield
        await batcher.close()  # what was accepted is still answered
        await worker

    app = FastAPI(title="Text classification", version="1", lifespan=lifespan)
    app.state.batcher = batcher
    app.add_middleware(
        BodyReader, max_bytes=settings.max_body_bytes, seconds=settings.request_seconds
    )
    app.add_middleware(RequestCounter, metrics=metrics)
    _handlers(app)
    problems = {code: {"model": ErrorResponse} for code in (400, 408, 413, 422, 503)}

    @app.post("/predict", response_model=PredictResponse, responses=problems)
    async def predict(request: PredictRequest):
        check(request, settings)
        try:
            with metrics.request_seconds.time():
                predictions = await batcher.predict(request.texts, request.pairs)
        except BusyError:
            reason = "the service is stopping" if batcher.closing else "too many texts wait"
            raise RequestError(503, f"{reason}; try again later") from None
        except UserError as error:
            raise RequestError(400, str(error)) from None
        return {"predictions": [asdict(prediction) for prediction in predictions]}

    @app.get("/health", response_model=HealthResponse)
    async def health():
        return {
            "status": "stopping" if batcher.closing else "ok",
            "labels": predictor.labels,
            "waiting": batcher.waiting,
            "answered": batcher.answered,
            "calls": batcher.calls,
        }

    @app.get("/metrics", response_class=Response)
    async def prometheus():
        return Response(metrics.render(), media_type=CONTENT_TYPE)

    return app


def check(request: PredictRequest, settings: ServeRecipe) -> None:
    """RequestError for what the limits do not allow."""
    if len(request.texts) > settings.max_texts:
        raise RequestError(
            413, f"{len(request.texts)} texts; at most {settings.max_texts} a request"
        )
    if request.pairs is not None and len(request.pairs) != len(request.texts):
        raise RequestError(400, f"{len(request.texts)} texts but {len(request.pairs)} pairs")
    for number, text in enumerate(request.texts, 1):
        if not text.strip():
            raise RequestError(400, f"text {number} is empty")
    for number, text in enumerate([*request.texts, *(request.pairs or [])], 1):
        if len(text) > settings.max_characters:
            raise RequestError(
                413,
                f"text {number} has {len(text)} characters; at most {settings.max_characters}",
            )


def _handlers(app: FastAPI) -> None:
    @app.exception_handler(RequestError)
    async def refused(_: Request, error: RequestError):
        headers = {"Retry-After": "1"} if error.status == 503 else None
        return JSONResponse({"error": str(error)}, error.status, headers)

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException):
        reasons = {404: "no such path", 405: f"{request.method} is not allowed"}
        reason = f"{reasons.get(error.status_code, error.detail)}: {request.url.path}"
        return JSONResponse({"error": reason}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError):
        reasons = [
            f"{'.'.join(str(part) for part in item['loc'][1:]) or 'body'}: {item['msg']}"
            for item in error.errors()
        ]
        return JSONResponse({"error": "; ".join(reasons)}, 422)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception):
        LOG.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return JSONResponse({"error": "the service failed; its log says why"}, 500)


class BodyReader:
    """ASGI middleware that reads a request's body before the service sees it.

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
            messages = await asyncio.wait_for(self._read(receive), self.seconds)
        except TimeoutError:
            reason = f"the body was not whole after {self.seconds:g} seconds"
            await _refuse(408, reason)(scope, receive, send)
            return
        except OverflowError:
            reason = f"the body has more than {self.max_bytes} bytes"
            await _refuse(413, reason)(scope, receive, send)
            return

        async def replay():
            return messages.pop(0) if messages else await receive()

        await self.app(scope, replay, send)

    async def _read(self, receive) -> list[dict]:
        messages, size, more = [], 0, True
        while more:
            message = await receive()
            size += len(message.get("body", b""))
            if size > self.max_bytes:
                raise OverflowError
            more = message.get("more_body", False)
            messages.append(message)
        return messages


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
            self.metrics.requests.labels(path, status).inc()
