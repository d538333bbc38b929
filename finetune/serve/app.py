"""The HTTP interface: POST /predict, GET /health, GET /metrics, and the OpenAPI page at /docs."""

import asyncio
import contextlib

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from finetune.deploy.predict import Predictor
from finetune.recipes import ServeRecipe
from finetune.serve.batcher import Batcher
from finetune.serve.endpoint import PATH, PredictEndpoint, failure
from finetune.serve.metrics import CONTENT_TYPE, Metrics
from finetune.serve.middleware import BodyReader, RequestCounter
from finetune.serve.schema import ErrorResponse, HealthResponse, PredictRequest, PredictResponse


def create_app(predictor: Predictor, settings: ServeRecipe) -> RequestCounter:
    """The service, an ASGI application; the batcher lives as long as its lifespan."""
    metrics = Metrics()
    batcher = Batcher(
        predictor, settings.max_batch, settings.window_ms / 1e3, settings.queue_limit, metrics
    )
    others = _documented(predictor, batcher, metrics)
    endpoint = PredictEndpoint(others, batcher, metrics, settings)
    reader = BodyReader(endpoint, settings.max_body_bytes, settings.request_seconds)
    return RequestCounter(reader, metrics)


def _documented(predictor: Predictor, batcher: Batcher, metrics: Metrics) -> FastAPI:
    """Every path but POST /predict, and the description of all."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI):
        worker = asyncio.create_task(batcher.run())
        yield
        await batcher.close()  # what was accepted is still answered
        await worker

    app = FastAPI(title="Text classification", version="1", lifespan=lifespan)
    _handlers(app)
    problems = {code: {"model": ErrorResponse} for code in (400, 408, 413, 422, 503)}

    @app.post(PATH, response_model=PredictResponse, responses=problems)
    async def predict(request: PredictRequest):
        raise AssertionError("PredictEndpoint answers this path")

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


def _handlers(app: FastAPI) -> None:
    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException):
        reasons = {404: "no such path", 405: f"{request.method} is not allowed"}
        reason = f"{reasons.get(error.status_code, error.detail)}: {request.url.path}"
        return JSONResponse({"error": reason}, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception):
        return failure(request.method, request.url.path, error)
