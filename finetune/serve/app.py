"""The HTTP interface: POST /predict, GET /health, and the OpenAPI page at /docs."""

import asyncio
import contextlib
import logging
from dataclasses import asdict

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from finetune.deploy.predict import Predictor
from finetune.recipes import ServeRecipe
from finetune.serve.batcher import Batcher, BusyError

LOG = logging.getLogger("finetune.serve")


class Texts(BaseModel):
    """What is to be classified."""

    texts: list[str] = Field(min_length=1, examples=[["今天有雨"]])
    pairs: list[str] | None = Field(None, description="second sentences, for tasks on pairs")


class Labelled(BaseModel):
    """One answer."""

    label: str
    probability: float
    probabilities: dict[str, float]


class FoundEntity(BaseModel):
    """`text[start:end]` of the request's text is a `label`."""

    text: str
    label: str
    start: int
    end: int
    probability: float


class FoundEntities(BaseModel):
    """The answer of a model for tokens."""

    entities: list[FoundEntity]


class Answers(BaseModel):
    """One answer a text, in order."""

    predictions: list[Labelled] | list[FoundEntities]


class Problem(BaseModel):
    """Why a request was not answered."""

    error: str


class Health(BaseModel):
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
    batcher = Batcher(predictor, settings.max_batch, settings.window_ms / 1e3, settings.queue_limit)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI):
        worker = asyncio.create_task(batcher.run())
        yield
        await batcher.close()  # what was accepted is still answered
        await worker

    app = FastAPI(title="Text classification", version="1", lifespan=lifespan)
    app.state.batcher = batcher
    app.add_middleware(BodyLimit, most=settings.max_body_bytes)
    _handlers(app)
    problems = {code: {"model": Problem} for code in (400, 413, 422, 503)}

    @app.post("/predict", response_model=Answers, responses=problems)
    async def predict(request: Texts):
        check(request, settings)
        try:
            found = await batcher.predict(request.texts, request.pairs)
        except BusyError:
            raise RequestError(503, "too many texts wait; try again later") from None
        return {"predictions": [asdict(one) for one in found]}

    @app.get("/health", response_model=Health)
    async def health():
        return {
            "status": "stopping" if batcher.closing else "ok",
            "labels": predictor.labels,
            "waiting": batcher.waiting,
            "answered": batcher.answered,
            "calls": batcher.calls,
        }

    return app


def check(request: Texts, settings: ServeRecipe) -> None:
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


class BodyLimit:
    """ASGI middleware: a body of more than `most` bytes gets 413 before it is held in memory."""

    def __init__(self, app, most: int):
        self.app, self.most = app, most

    async def __call__(self, scope, receive, send):
        """See the class."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        messages, size, more = [], 0, True
        while more:
            message = await receive()
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
            messages.append(message)
            if size > self.most:
                response = JSONResponse({"error": f"the body has more than {self.most} bytes"}, 413)
                await response(scope, receive, send)
                return

        async def replay():
            return messages.pop(0) if messages else await receive()

        await self.app(scope, replay, send)
