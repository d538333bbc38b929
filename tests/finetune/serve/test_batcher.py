"""Calls that requests share: who waits for whom, and what is refused."""

import asyncio

import pytest

from finetune.serve.batcher import Batcher, BusyError
from tests.finetune.serve.predictors import Slow


def test_a_lone_request_does_not_wait_for_the_window():
    async def scenario():
        slow = Slow()
        slow.leave.set()
        batcher = Batcher(slow, max_batch=8, window=3600.0, queue_limit=10)
        worker = asyncio.create_task(batcher.run())
        for text in "abc":
            await asyncio.wait_for(batcher.predict([text]), 30)
        await batcher.close()
        await worker

    asyncio.run(scenario())


def test_a_shared_call_waits_for_as_many_texts_as_the_last_one_had():
    """Not for the end of the window: clients that ask again at once would lose it at every call."""

    async def scenario():
        slow = Slow()
        slow.leave.set()
        batcher = Batcher(slow, max_batch=8, window=3600.0, queue_limit=10)
        worker = asyncio.create_task(batcher.run())
        for texts in ("abc", "def"):
            together = asyncio.gather(*(batcher.predict([text]) for text in texts))
            await asyncio.wait_for(together, 30)
        await batcher.close()
        await worker
        return slow.calls

    assert asyncio.run(scenario()) == [["a", "b", "c"], ["d", "e", "f"]]


def test_requests_that_wait_are_answered_in_one_call():
    async def scenario():
        slow = Slow()
        batcher = Batcher(slow, max_batch=8, window=0.0, queue_limit=100)
        worker = asyncio.create_task(batcher.run())
        first = asyncio.create_task(batcher.predict(["a"]))
        while not slow.calls:
            await asyncio.sleep(0.001)
        others = [asyncio.create_task(batcher.predict([f"{i}", f"{i}x"])) for i in range(3)]
        while len(batcher.queue) < 3:
            await asyncio.sleep(0.001)
        slow.leave.set()
        answers = await asyncio.gather(first, *others)
        await batcher.close()
        await worker
        return slow.calls, answers

    calls, answers = asyncio.run(scenario())
    assert calls == [["a"], ["0", "0x", "1", "1x", "2", "2x"]]
    assert [[one.label for one in answer] for answer in answers] == [
        ["a"],
        ["0", "0x"],
        ["1", "1x"],
        ["2", "2x"],
    ]


def test_a_full_queue_refuses_and_a_stop_still_answers():
    async def scenario():
        slow = Slow()
        batcher = Batcher(slow, max_batch=2, window=0.0, queue_limit=3)
        worker = asyncio.create_task(batcher.run())
        accepted = [asyncio.create_task(batcher.predict([str(i)])) for i in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(BusyError):
            await batcher.predict(["too much"])
        await batcher.close()
        with pytest.raises(BusyError):
            await batcher.predict(["too late"])
        slow.leave.set()
        answers = await asyncio.gather(*accepted)
        await asyncio.wait_for(worker, 30)
        return [one.label for answer in answers for one in answer]

    assert asyncio.run(scenario()) == ["0", "1", "2"]
