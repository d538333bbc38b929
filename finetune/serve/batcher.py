"""Concurrent requests answered together: one call of the model for many of them."""

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Any

from finetune.deploy.predict import Predictor
from finetune.serve.metrics import Metrics


class BusyError(Exception):
    """The queue is full, or the service is stopping."""


@dataclass
class QueuedRequest:
    """One request that waits for its predictions."""

    texts: list[str]
    pairs: list[str] | None
    answer: asyncio.Future = field(default_factory=asyncio.Future)


class Batcher:
    """Collects requests of at most `max_batch` texts, then calls the predictor.

    The predictor runs in a thread, one call at a time; requests that arrive meanwhile are answered
    by the next call. Only when the last call was shared does the next one wait, for at most
    `window` seconds, for more requests: a lone client is never held back.
    """

    def __init__(
        self,
        predictor: Predictor,
        max_batch: int,
        window: float,
        queue_limit: int,
        metrics: Metrics | None = None,
    ):
        self.predictor, self.max_batch, self.window = predictor, max_batch, window
        self.queue_limit = queue_limit
        self.metrics = metrics or Metrics()
        self.queue: asyncio.Queue[QueuedRequest | None] = asyncio.Queue()
        self.waiting = 0  # texts accepted and not yet answered
        self.calls = 0
        self.answered = 0
        self.closing = False
        self._last_was_shared = False

    async def predict(self, texts: list[str], pairs: list[str] | None = None) -> list[Any]:
        """Predictions in order; BusyError when the queue is full or the service is stopping."""
        if self.closing or self.waiting + len(texts) > self.queue_limit:
            raise BusyError
        request = QueuedRequest(texts, pairs)
        self.waiting += len(texts)
        self.metrics.waiting.set(self.waiting)
        try:
            await self.queue.put(request)
            return await request.answer
        finally:
            self.waiting -= len(texts)
            self.metrics.waiting.set(self.waiting)

    async def run(self) -> None:
        """Answer until `close`; what was accepted before it is answered too."""
        carried: QueuedRequest | None = None
        while (first := carried or await self.queue.get()) is not None:
            batch, carried = await self._collect(first)
            self._last_was_shared = len(batch) > 1
            await self._answer(batch)
            if carried is None and self.closing and self.queue.empty():
                return

    async def close(self) -> None:
        """Accept nothing more and let `run` end."""
        self.closing = True
        await self.queue.put(None)

    async def _collect(
        self, first: QueuedRequest
    ) -> tuple[list[QueuedRequest], QueuedRequest | None]:
        """Requests to answer together, and one that did not fit."""
        batch, texts = [first], len(first.texts)
        window = self.window if self._last_was_shared else 0.0
        until = asyncio.get_running_loop().time() + window
        while texts < self.max_batch:
            more = await self._next(until)
            if more is None:
                break
            if texts + len(more.texts) > self.max_batch:
                return batch, more
            batch.append(more)
            texts += len(more.texts)
        return batch, None

    async def _next(self, until: float) -> QueuedRequest | None:
        """What is queued or comes before `until`; None when nothing does, or at the end."""
        with contextlib.suppress(asyncio.QueueEmpty):
            return self.queue.get_nowait()
        left = until - asyncio.get_running_loop().time()
        if left <= 0:
            return None
        with contextlib.suppress(asyncio.TimeoutError):
            return await asyncio.wait_for(self.queue.get(), left)
        return None

    async def _answer(self, batch: list[QueuedRequest]) -> None:
        texts = [text for request in batch for text in request.texts]
        pairs: list[str | None] = []
        for request in batch:
            pairs += request.pairs or [None] * len(request.texts)
        try:
            with self.metrics.call_seconds.time():
                predictions = await asyncio.to_thread(self.predictor.predict, texts, pairs)
        except Exception as error:  # whatever it is, the waiting clients get an answer
            for request in batch:
                if not request.answer.done():
                    request.answer.set_exception(error)
            return
        self.calls += 1
        self.answered += len(texts)
        self.metrics.texts.inc(len(texts))
        self.metrics.batch_size.observe(len(texts))
        for request in batch:
            own, predictions = (
                predictions[: len(request.texts)],
                predictions[len(request.texts) :],
            )
            if not request.answer.done():  # its client may have disconnected
                request.answer.set_result(own)
