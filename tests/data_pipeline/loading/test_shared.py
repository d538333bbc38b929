"""Processes that share what one of them reads get what each would have read by itself."""

import hashlib
import multiprocessing
import os
import resource
import secrets
import signal
from contextlib import closing
from itertools import islice

import numpy as np
import pytest

from data_pipeline.base.errors import UserError
from data_pipeline.loading.loader import Loader
from data_pipeline.loading.order import OrderSettings, World
from data_pipeline.loading.shared import Node, open_source
from data_pipeline.shards import format as shards

SETTINGS = OrderSettings(seed=3, relation_group_size=4, global_batch_size=16, window_samples=64)
STEPS = 20
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def folder(shard_directory):
    return shard_directory(90, 40, 77)


@pytest.fixture
def address():
    return f"test-{secrets.token_hex(8)}"


def digests(loader, steps):
    """Of all that each step holds."""
    made = []
    for step in islice(loader, steps):
        hasher = hashlib.sha256()
        for batch in step:
            for array in (batch.input_ids, batch.attention_mask, batch.word_start):
                hasher.update(array.tobytes())
            hasher.update(batch.sample_ids.tobytes())
        made.append(hasher.hexdigest())
    return made


def rank(folder, world, node, meet, results, hurt=None):
    """One rank: its digests, and how often it opened each shard."""
    opened, inner = [], shards._open
    shards._open = lambda path: opened.append(path.name) or inner(path)
    with closing(Loader(folder, SETTINGS, world, workers=2, node=node)) as loader:
        meet.wait(60)
        if hurt:
            hurt()
        made = digests(loader, STEPS)
        meet.wait(60)  # the reader serves until all are done
    results.put((world.rank, made, opened))


def run_ranks(folder, address, size, hurt=None):
    """(digests, opened files) by rank."""
    meet, results = FORK.Barrier(size), FORK.Queue()
    ranks = [
        FORK.Process(
            target=rank,
            args=(folder, World(n, size), Node(address, n == 0), meet, results, hurt),
        )
        for n in range(size)
    ]
    for process in ranks:
        process.start()
    found = {number: rest for number, *rest in (results.get(timeout=60) for _ in ranks)}
    for process in ranks:
        process.join(60)
        assert process.exitcode == 0
    return found


@pytest.mark.parametrize("size", [2, 4])
def test_ranks_of_a_node_get_the_same_samples_and_open_each_shard_once(folder, address, size):
    found = run_ranks(folder, address, size)
    for number, (made, opened) in found.items():
        assert made == digests(Loader(folder, SETTINGS, World(number, size), workers=0), STEPS)
        names = ["shard-00000.h5", "shard-00001.h5", "shard-00002.h5"]
        assert sorted(opened) == (names if number == 0 else [])


def test_without_room_for_sharing_each_reads_by_itself_and_says_so(folder, address, capfd):
    """A memory file cannot be made larger than this limit."""

    def no_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    found = run_ranks(folder, address, 2, hurt=no_room)
    for number, (made, opened) in found.items():
        assert made == digests(Loader(folder, SETTINGS, World(number, 2), workers=0), STEPS)
        assert len(opened) == 3
    assert capfd.readouterr().out.count("each reads the shards by itself") == 1


def numbers(*key):
    if key == (7,):
        raise UserError("shard-7: damaged")
    return {
        "key": np.array(key),
        "squares": np.arange(5, dtype=np.uint16) ** 2,
        "none": np.zeros(0),
    }


def test_arrays_arrive_as_they_are_and_outlive_the_reader(address):
    calls = []

    def counted(*key):
        calls.append(key)
        return numbers(*key)

    reader = open_source(counted, Node(address, True))
    other = open_source(counted, Node(address, False))
    given, own = other(1, 2), reader(1, 2)
    assert calls == [(1, 2)]
    reader.close()
    for arrays in (given, own):
        for name, array in numbers(1, 2).items():
            assert arrays[name].dtype == array.dtype
            np.testing.assert_array_equal(arrays[name], array)
            assert not arrays[name].flags.writeable
    with pytest.raises(UserError, match="the rank that reads the shards for this node") as caught:
        other(3)
    assert caught.value.exit_code == 1  # may be started again
    other.close()


def test_an_error_of_the_reader_reaches_the_others(address):
    reader = open_source(numbers, Node(address, True))
    other = open_source(numbers, Node(address, False))
    for source in (other, reader):
        with pytest.raises(UserError, match="shard-7: damaged") as caught:
            source(7)
        assert caught.value.exit_code == 2
    assert other(1)["key"].tolist() == [1]
    other.close()
    reader.close()


def test_a_reader_that_is_killed_is_noticed(address):
    ready = FORK.Event()

    def read():
        open_source(numbers, Node(address, True))
        ready.set()
        signal.pause()

    process = FORK.Process(target=read)
    process.start()
    assert ready.wait(60)
    other = open_source(numbers, Node(address, False))
    assert other(1)["key"].tolist() == [1]
    os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    with pytest.raises(UserError, match="has ended; so does this one"):
        other(2)


def test_without_a_reader_each_reads_by_itself(address, capsys):
    other = open_source(numbers, Node(address, False))
    assert other(5)["key"].tolist() == [5] and other(6)["key"].tolist() == [6]
    assert capsys.readouterr().out.count("each reads the shards by itself") == 1
