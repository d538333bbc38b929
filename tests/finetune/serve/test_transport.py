"""Writes that leave together."""

import asyncio

from finetune.serve.transport import JoinedWrites


class Recorder:
    """A transport that notes what is done with it."""

    def __init__(self):
        self.done: list = []

    def write(self, data):
        self.done.append(data)

    def close(self):
        self.done.append("closed")

    def is_closing(self):
        return "closed" in self.done


def test_what_is_written_in_one_turn_of_the_loop_leaves_at_once():
    async def scenario():
        inner = Recorder()
        joined = JoinedWrites(inner, asyncio.get_running_loop())
        for turn in (b"1", b"2"):
            joined.write(b"head" + turn)
            joined.write(b"body" + turn)
            await asyncio.sleep(0)
        return inner.done

    assert asyncio.run(scenario()) == [b"head1body1", b"head2body2"]


def test_what_is_written_leaves_before_the_end():
    async def scenario():
        inner = Recorder()
        joined = JoinedWrites(inner, asyncio.get_running_loop())
        joined.write(b"last")
        joined.close()
        assert joined.is_closing()
        await asyncio.sleep(0)
        return inner.done

    assert asyncio.run(scenario()) == [b"last", "closed"]
