import threading
from itertools import islice

import numpy as np
import pytest

from data_pipeline.base.errors import UserError
from data_pipeline.loading import loader as loaders
from data_pipeline.loading.loader import Loader
from data_pipeline.loading.order import OrderSettings, State, World
from data_pipeline.shards.format import ShardReader
from data_pipeline.text.samples import Ragged

SETTINGS = OrderSettings(seed=3, relation_group_size=4, global_batch_size=16, window_samples=64)


@pytest.fixture
def folder(shard_directory):
    return shard_directory(90, 40, 77)


def steps(folder, count, **options):
    return list(islice(Loader(folder, SETTINGS, **options), count))


def content(batch):
    arrays = (batch.input_ids, batch.attention_mask, batch.word_start, batch.sample_ids)
    return [(a.dtype.str, a.shape, a.tobytes()) for a in arrays]


def test_batches_hold_the_samples(folder):
    reader = ShardReader(folder)
    for step in steps(folder, 20):
        assert len(step) == 4
        for batch in step:
            assert batch.input_ids.dtype == batch.attention_mask.dtype == np.int64
            assert batch.word_start.dtype == np.uint8 and batch.relation_group_size == 4
            assert batch.input_ids.shape[0] == 4 and batch.input_ids.shape[1] % 8 == 0
            ids, word_start = reader.read(batch.sample_ids)
            for row, (i, w) in enumerate(zip(ids, word_start, strict=True)):
                n = len(i)
                assert batch.attention_mask[row].tolist() == [1] * n + [0] * (
                    len(batch.attention_mask[row]) - n
                )
                np.testing.assert_array_equal(batch.input_ids[row, :n], i)
                np.testing.assert_array_equal(batch.word_start[row, :n], w)
                assert not batch.input_ids[row, n:].any() and not batch.word_start[row, n:].any()


def test_same_bytes_for_any_number_of_workers(folder):
    expected = [[content(b) for b in step] for step in steps(folder, 40, workers=0)]
    for workers in (1, 2, 8):
        found = steps(folder, 40, workers=workers)
        assert [[content(b) for b in step] for step in found] == expected


def test_ranks_and_micro_batches_share_the_same_groups(folder):
    def groups(all_steps):
        return [
            sorted(tuple(g) for b in step for g in b.sample_ids.reshape(-1, 4).tolist())
            for step in all_steps
        ]

    expected = groups(steps(folder, 15, workers=0))
    for size in (1, 2, 4):
        for per in (1, 2):
            if 4 // size % per:
                continue
            ranks = [
                steps(folder, 15, world=World(r, size), groups_per_micro_batch=per, workers=0)
                for r in range(size)
            ]
            together = [[b for step in same for b in step] for same in zip(*ranks, strict=True)]
            assert groups(together) == expected


@pytest.mark.parametrize("done", [1, 4, 12, 13, 26])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_loader_goes_on_exactly(folder, done, workers):
    """Within a window, at its end, at the end of an epoch, in the next, and twice in a row."""
    whole = [[content(b) for b in step] for step in steps(folder, 40, workers=workers)]
    first = Loader(folder, SETTINGS, workers=workers)
    list(islice(first, done))
    assert first.state.samples == done * 16
    second = Loader(folder, SETTINGS, state=first.state, workers=workers)
    found = [[content(b) for b in step] for step in islice(second, 3)]
    third = Loader(folder, SETTINGS, state=second.state, workers=workers)
    found += [[content(b) for b in step] for step in islice(third, 5)]
    assert found == whole[done : done + 8]


def test_the_state_does_not_count_what_was_made_ahead(folder):
    loader = Loader(folder, SETTINGS, workers=4)
    iterator = iter(loader)
    assert loader.state == State()
    next(iterator)
    assert loader.state == State(0, 1, 16)
    iterator.close()


def test_epochs_differ_and_follow_each_other(folder):
    loader = Loader(folder, SETTINGS)
    assert loader.steps_per_epoch == 12
    ids = [np.concatenate([b.sample_ids for b in step]) for step in islice(loader, 24)]
    first, second = np.concatenate(ids[:12]), np.concatenate(ids[12:])
    assert len(np.unique(first)) == len(first) == 192
    assert loader.state == State(2, 0, 384)
    assert not np.array_equal(first, second)


def test_threads_end_with_the_iterator(folder):
    iterator = iter(Loader(folder, SETTINGS, workers=3))
    next(iterator)
    iterator.close()
    assert not any(thread.name.startswith("loader") for thread in threading.enumerate())


def test_damage_reaches_the_caller_from_a_thread(folder):
    path = folder / "shard-00001.h5"
    path.write_bytes(b"")
    for workers in (0, 2):
        with pytest.raises(UserError, match=r"shard-00001\.h5"):
            steps(folder, 12, workers=workers)


def test_what_does_not_fit_is_refused(folder):
    with pytest.raises(UserError, match="3 does not divide the 4 relation group"):
        Loader(folder, SETTINGS, groups_per_micro_batch=3)
    with pytest.raises(UserError, match="cannot be shared evenly by 3 ranks"):
        Loader(folder, SETTINGS, World(0, 3))
    with pytest.raises(UserError, match="these are other shards"):
        Loader(folder, SETTINGS, state=State(0, 12, 0))


@pytest.mark.parametrize("pad_id", [0, 7])
def test_padding_is_the_slow_way_done_fast(ragged, pad_id):
    samples = ragged([3, 9, 5, 30, 2])
    positions = np.array([4, 1, 0, 4])
    slack = loaders.with_slack(samples, 32)
    ids, mask, word_start = loaders.padded(slack, positions, pad_id, 8, 32)
    assert ids.shape == (4, 16)
    for row, position in enumerate(positions):
        a, b = samples.offsets[position], samples.offsets[position + 1]
        n = b - a
        assert ids[row].tolist() == samples.ids[a:b].tolist() + [pad_id] * (16 - n)
        assert word_start[row].tolist() == samples.word_start[a:b].tolist() + [0] * (16 - n)
        assert mask[row].tolist() == [True] * n + [False] * (16 - n)
    assert loaders.padded(slack, np.array([3]), 0, 8, 30)[0].shape == (1, 30)
    assert isinstance(slack, Ragged) and len(slack) == 5
