"""Concurrent requests answered together: one call of the model for many of them."""

import asyncio
import contextlib
from collections import deque
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
    by the next call. Only when the last call was shared does the next one wait, until as many texts
    have come as that one had, or for `window` seconds: a lone client is never held back.
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
        self.metrics.waiting.set_function(lambda: self.waiting)
        self.queue: deque[QueuedRequest] = deque()
        self.queued = 0  # texts in the queue
        self.waiting = 0  # texts accepted and not yet answered
        self.calls = 0
        self.answered = 0
        self.closing = False
        self._wanted = 1  # so many texts in the queue set `_enough`
        self._enough = asyncio.Event()

    async def predict(self, texts: list[str], pairs: list[str] | None = None) -> list[Any]:
        """Predictions in order; BusyError when the queue is full or the service is stopping."""
        if self.closing or self.waiting + len(texts) > self.queue_limit:
            raise BusyError
        request = QueuedRequest(texts, pairs)
        self.queue.append(request)
        self.queued += len(texts)
        self.waiting += len(texts)
        if self.queued >= self._wanted:
            self._enough.set()
        try:
            return await request.answer
        finally:
            self.waiting -= len(texts)

    async def run(self) -> None:
        """Answer until `close`; what was accepted before it is answered too."""
        expected = 1
        while await self._texts_came(expected):
            batch = self._take()
            await self._answer(batch)
            expected = sum(len(request.texts) for request in batch) if len(batch) > 1 else 1

    async def close(self) -> None:
        """Accept nothing more and let `run` end."""
        self.closing = True
        self._enough.set()

    async def _texts_came(self, expected: int) -> bool:
        """Whether any did: until there are `expected`, or the window of the first is over."""
        await self._until(1)
        if self.queued < expected:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.window):
                    await self._until(expected)
        return bool(self.queue)

    async def _until(self, texts: int) -> None:
        """Until so many texts are in the queue, or the service stops."""
        self._wanted = texts
        while self.queued < texts and not self.closing:
            self._enough.clear()
            await self._enough.wait()

    def _take(self) -> list[QueuedRequest]:
        """The next requests that fit into one call; the first in any case."""
        batch: list[QueuedRequest] = []
        texts = 0
        while self.queue and (not batch or texts + len(self.queue[0].texts) <= self.max_batch):
            batch.append(self.queue.popleft())
            texts += len(batch[-1].texts)
        self.queued -= texts
        return batch

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
