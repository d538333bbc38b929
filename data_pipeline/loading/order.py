"""Which sample comes when: pure functions of (number of samples, lengths, settings, epoch).

An epoch is made so:

    all samples, rotated    by a random amount, so that what is cut off at the end differs
    -> blocks               of consecutive samples (reads stay sequential), permuted; of a large
                            corpus in stretches, so that a window reads neighbouring shards
    -> windows              of whole global batches; shuffled inside
    -> relation groups      of samples of like length
    -> global batches       of groups of like length, so that no rank waits for one with longer
                            samples; shuffled; the last, incomplete one of an epoch is left out
    -> micro-batches        of groups of like length
    -> ranks                rank r takes micro-batches r, r + size, ... of each global batch

What was consumed is dropped before the dealing, so neither the groups nor their order depend on
how many ranks there are. Nothing here reads a file.
"""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from data_pipeline.base.errors import UserError

BLOCKS, WINDOW = 0, 1  # which random stream of an epoch
SMALL = 4096  # blocks; so few lie in a few dozen shards
STRETCH = 64  # neighbouring blocks that are read together: those of a window
MIXED = 4  # stretches whose blocks are permuted among themselves


@dataclass(frozen=True)
class World:
    """This process among all that train together."""

    rank: int = 0
    size: int = 1


@dataclass(frozen=True)
class OrderSettings:
    """What decides the order, besides the samples themselves."""

    seed: int = 0
    relation_group_size: int = 128
    """Samples that are related to each other; they stay together."""
    global_batch_size: int = 1024
    """Samples of one optimiser step over all ranks and accumulation steps."""
    window_samples: int = 1 << 16
    """Shuffled and bucketed at a time; rounded down to whole global batches, at least one."""
    block_samples: int = 1024
    """Consecutive samples read in one go."""
    bucket_tokens: int = 8
    """Lengths that differ by less than this count as equal."""

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():
            if name != "seed" and value < 1:
                raise UserError(f"{name}: must be at least 1, found {value}")
        _raise(share_problem(self.global_batch_size, self.relation_group_size))

    @property
    def groups(self) -> int:
        """Relation groups in a global batch."""
        return self.global_batch_size // self.relation_group_size

    @property
    def window_batches(self) -> int:
        """Global batches in a window."""
        return max(1, self.window_samples // self.global_batch_size)


@dataclass(frozen=True)
class State:
    """How far training is. Counts what was trained on, never what was only prefetched."""

    epoch: int = 0
    batches: int = 0
    """Global batches done in this epoch."""
    samples: int = 0
    """Samples seen since the start of training, over all ranks."""


def share_problem(
    global_batch_size: int,
    relation_group_size: int,
    world_size: int = 1,
    groups_per_micro_batch: int = 1,
) -> tuple[str, str] | None:
    """(setting, what is wrong) when a global batch cannot be divided into relation groups, these
    evenly among the ranks, and a rank's into micro-batches; None when it can. With more ranks than
    groups, several ranks share each group."""
    if relation_group_size > global_batch_size:
        return (
            "relation_group_size",
            f"{relation_group_size} is more than the whole global_batch_size {global_batch_size}",
        )
    groups, rest = divmod(global_batch_size, relation_group_size)
    if rest:
        return (
            "global_batch_size",
            f"{global_batch_size} is not a multiple of relation_group_size {relation_group_size}",
        )
    parts, uneven = divmod(world_size, groups)
    if groups % world_size and (uneven or relation_group_size % parts):
        ranks = {n for n in range(1, min(groups, 4096) + 1) if groups % n == 0}
        ranks |= {groups * n for n in (1, 2, 4, 8, 16) if relation_group_size % n == 0}
        return (
            "global_batch_size",
            f"{global_batch_size} is {groups} relation group(s) of {relation_group_size}, which "
            f"cannot be shared evenly by {world_size} ranks; {in_words(ranks)} ranks can",
        )
    own = max(1, groups // world_size)
    if own % groups_per_micro_batch:
        return (
            "groups_per_micro_batch",
            f"{groups_per_micro_batch} does not divide the {own} relation group(s) of a rank; "
            f"{divisors(own)} would",
        )
    return None


def ranks_per_group(groups: int, world_size: int) -> int:
    """Ranks that share each of the relation groups of a global batch: 1, or more where there are
    more ranks than groups."""
    return max(1, world_size // groups)


def divisors(number: int) -> str:
    """Up to 4,096, as words: `1, 2 or 4`."""
    return in_words(n for n in range(1, min(number, 4096) + 1) if number % n == 0)


def in_words(numbers: Iterable[int]) -> str:
    """`1, 2 or 4`."""
    words = [str(number) for number in sorted(numbers)]
    return ", ".join(words[:-1]) + " or " * (len(words) > 1) + words[-1]


def _raise(problem: tuple[str, str] | None) -> None:
    if problem:
        raise UserError(f"{problem[0]}: {problem[1]}")


def check(
    settings: OrderSettings, world: World, samples: int, groups_per_micro_batch: int = 1
) -> None:
    """UserError unless the ranks can share the groups and there is at least one batch."""
    sizes = settings.global_batch_size, settings.relation_group_size
    _raise(share_problem(*sizes, world.size, groups_per_micro_batch))
    if batches_per_epoch(samples, settings) == 0:
        raise UserError(
            f"global_batch_size: {settings.global_batch_size}, but there are only {samples} samples"
        )


def batches_per_epoch(samples: int, settings: OrderSettings) -> int:
    """Whole global batches; what is left over, less than one, is not used in that epoch."""
    return samples // settings.global_batch_size


def advanced(state: State, samples: int, settings: OrderSettings) -> State:
    """The state after one more global batch."""
    epoch, batches = state.epoch, state.batches + 1
    if batches == batches_per_epoch(samples, settings):
        epoch, batches = epoch + 1, 0
    return State(epoch, batches, state.samples + settings.global_batch_size)


def place(state: State, settings: OrderSettings) -> tuple[int, int]:
    """(window, global batch inside it) that come next."""
    return divmod(state.batches, settings.window_batches)


def block_order(samples: int, settings: OrderSettings, epoch: int) -> tuple[np.ndarray, int]:
    """(order of the blocks int64 [blocks], rotation in samples). The short block stays last.

    Up to `SMALL` blocks are permuted freely. Of more, whole stretches of neighbouring blocks are
    permuted, and then the blocks of every few stretches among themselves: a window mixes distant
    parts of the corpus, but reads a handful of shards and not one for each of its blocks.
    """
    random = _random(settings, epoch, BLOCKS)
    rotation = int(random.integers(samples))
    blocks = samples // settings.block_samples
    if blocks <= SMALL:
        return random.permutation(blocks), rotation
    place = np.argsort(random.permutation(-(-blocks // STRETCH)))  # of each stretch
    order = np.argsort(place[np.arange(blocks) // STRETCH], kind="stable")
    group = np.arange(blocks) // (STRETCH * MIXED)
    return order[np.argsort(group + random.random(blocks))], rotation


def window_ranges(
    samples: int, settings: OrderSettings, epoch: int, window: int
) -> list[tuple[int, int]]:
    """The sample numbers of a window as half-open ranges, in the order of the permuted blocks."""
    blocks, rotation = block_order(samples, settings, epoch)
    size = settings.block_samples
    width = settings.window_batches * settings.global_batch_size
    start, stop = window * width, min((window + 1) * width, samples)
    ranges = []
    while start < stop:
        number, inside = divmod(start, size)
        end = min(stop, (number + 1) * size)
        block = int(blocks[number]) if number < len(blocks) else number
        first = (block * size + inside + rotation) % samples
        ranges += _unrolled(first, end - start, samples)
        start = end
    return ranges


def arrange(lengths: np.ndarray, settings: OrderSettings, epoch: int, window: int) -> np.ndarray:
    """Relation groups of one window.

    lengths: int [n], of the window's samples. Returns positions in it, int64
    [batches, groups, relation_group_size]: a window's global batches in order. Positions of an
    incomplete global batch are left out; which ones is random.
    """
    random = _random(settings, epoch, WINDOW, window)
    batches = len(lengths) // settings.global_batch_size
    shuffled = random.permutation(len(lengths))[: batches * settings.global_batch_size]
    bucket = -(-np.asarray(lengths)[shuffled] // settings.bucket_tokens)
    by_length = shuffled[np.argsort(bucket, kind="stable")]  # [batches * global_batch_size]
    groups = by_length.reshape(batches, settings.groups, settings.relation_group_size)
    return groups[random.permutation(batches)]


def deal(
    groups: np.ndarray, lengths: np.ndarray, world: World, groups_per_micro_batch: int = 1
) -> np.ndarray:
    """The micro-batches of one global batch that belong to a rank, longest first.

    groups: positions [groups, relation_group_size]; lengths: int [n] by position. Returns positions
    [micro-batches, samples]. All groups are sorted by their longest sample, and neighbours form a
    micro-batch, so that it needs little padding. Whole micro-batches are dealt in turn: ranks get
    about the same amount of work, and what is in a micro-batch does not depend on their number.

    With more ranks than groups, neighbouring ranks get the same group: each trains on a part of it,
    see `part_of_group`.
    """
    longest = np.asarray(lengths)[groups].max(axis=1)  # [groups]
    by_length = groups[np.argsort(-longest, kind="stable")]
    micro_batches = by_length.reshape(-1, groups_per_micro_batch * groups.shape[1])
    if world.size > len(groups):
        return micro_batches[[world.rank // (world.size // len(groups))]]
    return micro_batches[world.rank :: world.size]


def part_of_group(samples: int, ranks: int, rank: int) -> slice:
    """Which of the samples of a relation group belong to a rank, where `ranks` share it."""
    size = samples // ranks
    return slice(rank % ranks * size, (rank % ranks + 1) * size)


def _unrolled(first: int, count: int, samples: int) -> list[tuple[int, int]]:
    """`count` numbers from `first` on, going round after the last sample."""
    if first + count <= samples:
        return [(first, first + count)]
    return [(first, samples), (0, first + count - samples)]


def _random(settings: OrderSettings, *stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([settings.seed, *stream])))
