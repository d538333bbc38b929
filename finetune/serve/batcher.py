"""Concurrent requests answered together: one call of the model for many of them."""

import asyncio
import contextlib
from dataclasses import dataclass, field

from finetune.deploy.predict import Prediction, Predictor


class BusyError(Exception):
    """More texts wait than the service wants to keep."""


@dataclass
class _Waiting:
    texts: list[str]
    pairs: list[str] | None
    answer: asyncio.Future = field(default_factory=asyncio.Future)


class Batcher:
    """Collects requests for at most `window` seconds or `most` texts, then calls the predictor.

    The predictor runs in a thread, one call at a time; meanwhile requests queue. Single sentences
    and pairs are never in one call, since they are encoded differently.
    """

    def __init__(self, predictor: Predictor, most: int, window: float, queue_limit: int):
        self.predictor, self.most, self.window = predictor, most, window
        self.queue_limit = queue_limit
        self.queue: asyncio.Queue[_Waiting | None] = asyncio.Queue()
        self.waiting = 0  # texts accepted and not yet answered
        self.calls = 0
        self.answered = 0
        self.closing = False

    async def predict(self, texts: list[str], pairs: list[str] | None = None) -> list[Prediction]:
        """Predictions in order; BusyError when the queue is full or the service is stopping."""
        if self.closing or self.waiting + len(texts) > self.queue_limit:
            raise BusyError
        one = _Waiting(texts, pairs)
        self.waiting += len(texts)
        try:
            await self.queue.put(one)
            return await one.answer
        finally:
            self.waiting -= len(texts)

    async def run(self) -> None:
        """Answer until `close`; what was accepted before it is answered too."""
        carried: _Waiting | None = None
        while (first := carried or await self.queue.get()) is not None:
            batch, carried = await self._collect(first)
            await self._answer(batch)
            if carried is None and self.closing and self.queue.empty():
                return

    async def close(self) -> None:
        """Accept nothing more and let `run` end."""
        self.closing = True
        await self.queue.put(None)

    async def _collect(self, first: _Waiting) -> tuple[list[_Waiting], _Waiting | None]:
        """Requests to answer together, and one that did not fit."""
        batch, texts = [first], len(first.texts)
        until = asyncio.get_running_loop().time() + self.window
        while texts < self.most:
            more = await self._next(until)
            if more is None:
                break
            if (more.pairs is None) != (first.pairs is None) or texts + len(more.texts) > self.most:
                return batch, more
            batch.append(more)
            texts += len(more.texts)
        return batch, None

    async def _next(self, until: float) -> _Waiting | None:
        """What waits already, or comes before `until`; None when nothing does, or at the end."""
        with contextlib.suppress(asyncio.QueueEmpty):
            return self.queue.get_nowait()
        left = until - asyncio.get_running_loop().time()
        if left <= 0:
            return None
        with contextlib.suppress(asyncio.TimeoutError):
            return await asyncio.wait_for(self.queue.get(), left)
        return None

    async def _answer(self, batch: list[_Waiting]) -> None:
        texts = [text for one in batch for text in one.texts]
        pairs = [pair for one in batch for pair in one.pairs or []] or None
        try:
            found = await asyncio.to_thread(self.predictor.predict, texts, pairs)
        except Exception as error:  # whatever it is, those who wait must hear of it
            for one in batch:
                if not one.answer.done():
                    one.answer.set_exception(error)
            return
        self.calls += 1
        self.answered += len(texts)
        for one in batch:
            mine, found = found[: len(one.texts)], found[len(one.texts) :]
            if not one.answer.done():  # its client may have gone
                one.answer.set_result(mine)
