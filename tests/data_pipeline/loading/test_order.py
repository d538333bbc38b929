import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.base.errors import UserError
from data_pipeline.loading import order
from data_pipeline.loading.order import OrderSettings, State, World


def lengths_of(samples):
    return np.random.default_rng(9).integers(3, 129, samples)


def epoch_of(samples, settings, epoch):
    """Sample ids of a whole epoch, int64 [batches, groups, relation_group_size]."""
    lengths, parts = lengths_of(samples), []
    window = 0
    while window * settings.window_batches < order.batches_per_epoch(samples, settings):
        ranges = order.window_ranges(samples, settings, epoch, window)
        ids = np.concatenate([np.arange(*r) for r in ranges])
        parts.append(ids[order.arrange(lengths[ids], settings, epoch, window)])
        window += 1
    return np.concatenate(parts)


shapes = st.builds(
    lambda group, groups, window, block, seed: OrderSettings(
        seed, group, group * groups, window, block
    ),
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(1, 120),
    st.integers(1, 40),
    st.integers(0, 99),
)


@given(st.integers(20, 400), shapes, st.integers(0, 3))
@settings(max_examples=150, deadline=None)
def test_an_epoch_has_each_sample_once_but_for_the_last_batch(samples, settings, epoch):
    ids = epoch_of(samples, settings, epoch)
    batches = samples // settings.global_batch_size
    assert ids.shape == (batches, settings.groups, settings.relation_group_size)
    assert len(np.unique(ids)) == ids.size
    assert ids.min() >= 0 and ids.max() < samples
    assert samples - ids.size < settings.global_batch_size


def test_order_is_a_pure_function_of_seed_and_epoch():
    settings = OrderSettings(1, 4, 16, 64, 8)
    first = epoch_of(500, settings, 0)
    np.testing.assert_array_equal(first, epoch_of(500, settings, 0))
    assert not np.array_equal(first, epoch_of(500, settings, 1))
    assert not np.array_equal(first, epoch_of(500, OrderSettings(2, 4, 16, 64, 8), 0))


def test_what_is_left_out_differs_by_epoch():
    settings = OrderSettings(0, 4, 16, 64, 8)
    left = [set(range(507)) - set(epoch_of(507, settings, e).ravel().tolist()) for e in range(6)]
    assert all(len(ids) == 507 % 16 for ids in left)
    assert len(set.union(*left)) > 30


def test_blocks_are_consecutive_and_windows_mix_far_ones():
    settings = OrderSettings(0, 8, 64, 4096, 64)
    ranges = order.window_ranges(100_000, settings, 0, 3)
    assert sum(b - a for a, b in ranges) == 4096
    assert len(ranges) <= 4096 // 64 + 2
    assert max(b for _, b in ranges) - min(a for a, _ in ranges) > 50_000


def test_batches_are_of_like_length_and_in_random_order():
    settings = OrderSettings(0, 32, 128, 8192, 256)
    lengths = lengths_of(20_000)
    ids = epoch_of(20_000, settings, 0)
    groups = lengths[ids]  # [batches, groups, 32]
    padding = 1 - groups.sum() / (groups.max(axis=2) * 32).sum()
    assert padding < 0.06 < 1 - lengths.mean() / lengths.max()
    means = groups.mean(axis=2)
    assert np.ptp(means, axis=1).mean() < 4 < np.ptp(means)
    means = means.mean(axis=1)
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.1


@pytest.mark.parametrize("size", [1, 2, 4])
def test_ranks_share_the_same_groups(size):
    settings = OrderSettings(0, 4, 32, 64, 8)
    lengths = lengths_of(300)
    for batch in epoch_of(300, settings, 0):
        dealt = [order.deal(batch, lengths, World(rank, size)) for rank in range(size)]
        assert len({len(groups) for groups in dealt}) == 1
        together = np.concatenate(dealt)
        assert sorted(map(tuple, together)) == sorted(map(tuple, batch))
        longest = [lengths[groups].max(axis=1) for groups in dealt]
        assert all((np.diff(values) <= 0).all() for values in longest)


def test_state_walks_through_the_epochs():
    settings = OrderSettings(0, 4, 16, 32, 8)
    state = State()
    for _ in range(7):
        state = order.advanced(state, 50, settings)
    assert state == State(2, 1, 7 * 16)
    assert order.place(State(0, 5, 80), settings) == (2, 1)


def test_settings_that_cannot_work_are_user_errors():
    with pytest.raises(UserError, match="10 is not a multiple of relation_group_size 4"):
        OrderSettings(relation_group_size=4, global_batch_size=10)
    with pytest.raises(UserError, match="block_samples: must be at least 1"):
        OrderSettings(block_samples=0)
    settings = OrderSettings(0, 4, 12, 32, 8)
    with pytest.raises(UserError, match="cannot be shared evenly by 2 ranks"):
        order.check(settings, World(0, 2), 100)
    with pytest.raises(UserError, match="there are only 11 samples"):
        order.check(settings, World(), 11)


def test_ranks_share_whole_micro_batches():
    """What is in a micro-batch does not depend on the number of ranks, so its dropout need not."""
    lengths = np.random.default_rng(0).integers(1, 30, 32)
    groups = np.arange(32).reshape(8, 4)
    alone = order.deal(groups, lengths, World(), groups_per_micro_batch=2)
    assert alone.shape == (4, 8)  # micro-batches, samples
    for size in (2, 4):
        dealt = [order.deal(groups, lengths, World(rank, size), 2) for rank in range(size)]
        by_place = np.stack(dealt, axis=1).reshape(4, 8)  # number * size + rank
        assert (by_place == alone).all()


def test_more_ranks_than_groups_share_each_group():
    lengths = np.random.default_rng(0).integers(1, 30, 8)
    groups = np.arange(8).reshape(2, 4)
    alone = order.deal(groups, lengths, World())
    for rank in range(4):
        (micro_batch,) = order.deal(groups, lengths, World(rank, 4))
        assert (micro_batch == alone[rank // 2]).all()
    parts = [order.part_of_group(4, 2, rank) for rank in range(4)]
    assert parts == [slice(0, 2), slice(2, 4)] * 2
    assert order.ranks_per_group(2, 4) == 2
    assert order.share_problem(8, 4, 4) is order.share_problem(8, 4, 8) is None
    assert (
        order.share_problem(8, 4, 6)[0] == order.share_problem(8, 4, 16)[0] == "global_batch_size"
    )


@pytest.mark.parametrize("blocks", [order.SMALL, order.SMALL + 1, 20_000])
def test_a_window_of_a_large_corpus_reads_neighbouring_blocks(blocks):
    """And every block once, another order in every epoch; a small corpus is permuted freely."""
    settings = OrderSettings(block_samples=8, global_batch_size=8, relation_group_size=8)
    orders = [order.block_order(blocks * 8 + 3, settings, epoch)[0] for epoch in (0, 1)]
    assert (orders[0] != orders[1]).mean() > 0.9
    for found in orders:
        np.testing.assert_array_equal(np.sort(found), np.arange(blocks))
        places = [
            len(np.unique(found[start : start + 64] // order.STRETCH))
            for start in range(0, blocks - 64, 64)
        ]
        if blocks <= order.SMALL:
            assert np.mean(places) > 30
        else:
            assert max(places) <= 2 * order.MIXED + 1 and np.mean(places) > order.MIXED - 0.5
