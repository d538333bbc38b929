"""Batches of relation groups, in the order that `order` gives, made ahead by threads."""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from data_pipeline.base.errors import UserError
from data_pipeline.loading import order
from data_pipeline.loading.order import OrderSettings, State, World
from data_pipeline.loading.shared import Arrays, Node, open_source
from data_pipeline.shards.format import ShardReader
from data_pipeline.text.samples import Ragged


@dataclass(frozen=True)
class Batch:
    """One micro-batch: whole relation groups, one after another, padded to the longest sample."""

    input_ids: np.ndarray
    """int64 [groups * relation_group_size, L]."""
    attention_mask: np.ndarray
    """int64, same shape: 1 for a real token, 0 for padding."""
    word_start: np.ndarray
    """uint8, same shape: 1 where a word begins ([CLS] and [SEP] count as words), 0 on padding."""
    sample_ids: np.ndarray
    """int64 [groups * relation_group_size]: numbers in the shards."""
    relation_group_size: int
    group_mask: np.ndarray | None = None
    """int64 [relation_group_size, L]: `attention_mask` of the whole relation group, where its
    samples lie on several ranks and these are a part of them; None otherwise."""

    def part(self, rows: slice) -> "Batch":
        """The rows that one of several ranks has of a relation group."""
        return Batch(
            self.input_ids[rows],
            self.attention_mask[rows],
            self.word_start[rows],
            self.sample_ids[rows],
            self.relation_group_size,
            group_mask=self.attention_mask,
        )


@dataclass(frozen=True)
class _Window:
    samples: Ragged
    sample_ids: np.ndarray  # int64 [n]
    batches: np.ndarray  # positions [batches, groups, relation_group_size]

    @classmethod
    def of(cls, arrays: Arrays) -> "_Window":
        samples = Ragged(arrays["ids"], arrays["offsets"], arrays["word_start"])
        return cls(samples, arrays["sample_ids"], arrays["batches"])


class Loader:
    """Iterates over optimiser steps, without end; each is the list of this rank's micro-batches.

    `state` is where to continue after the step handed out last: save it together with the weights
    that this step produced. Steps prepared ahead do not count in it.

    workers: threads that read and pad ahead; 0 does it in the caller. Bytes and order are the same
    for any number. Threads are enough, because reading a block and padding a batch are calls into
    HDF5 and numpy.
    pad_to_multiple: L is rounded up to a multiple of this, but not above the shards' max_length.
    samples: only the first so many samples of the shards; all when None.
    node: where to share with other loaders what one of them reads; bytes and order are the same.
    """

    def __init__(
        self,
        directory: Path | str,
        settings: OrderSettings,
        world: World | None = None,
        state: State | None = None,
        groups_per_micro_batch: int = 1,
        *,
        workers: int = 1,
        pad_to_multiple: int = 8,
        samples: int | None = None,
        node: Node | None = None,
    ):
        self.reader = ShardReader(directory)
        self.settings, self.world, self.state = settings, world or World(), state or State()
        self.workers, self.pad_to_multiple = workers, pad_to_multiple
        self.samples = samples or self.reader.manifest.samples
        order.check(settings, self.world, self.samples, groups_per_micro_batch)
        if self.state.batches >= self.steps_per_epoch:
            raise UserError(
                f"the state to continue from has {self.state.batches} batches of an epoch done, "
                f"but {directory} gives only {self.steps_per_epoch}: these are other shards"
            )
        self._groups_per_micro_batch = groups_per_micro_batch
        self._arrays = open_source(self._read, node)

    def close(self) -> None:
        """Stop sharing with other loaders. Iterators must have ended, this one's and theirs."""
        self._arrays.close()

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in one epoch."""
        return order.batches_per_epoch(self.samples, self.settings)

    def __iter__(self) -> Generator[list[Batch], None, None]:
        if self.workers == 0:
            for window, number in self._plan(lambda load, *where: load(*where)):
                yield self._hand_out(self._step(window, number))
            return
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="loader")
        try:
            yield from self._ahead(pool)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _ahead(self, pool: ThreadPoolExecutor) -> Iterator[list[Batch]]:
        plan = self._plan(pool.submit)
        waiting: deque[Future] = deque()
        while True:
            while len(waiting) <= 2 * self.workers:
                window, number = next(plan)
                # A window is always submitted before its steps, so a step never waits for a
                # window that has no thread.
                waiting.append(pool.submit(self._step_of, window, number))
            yield self._hand_out(waiting.popleft().result())

    def _plan(self, load) -> Iterator[tuple]:
        """(window, global batch in it) for ever; `load` is asked for one window ahead."""
        state = self.state
        epoch, (window, first) = state.epoch, order.place(state, self.settings)
        ready = load(self._window, epoch, window)
        while True:
            count = self._batches_in(window)
            after = (epoch, window + 1) if self._batches_in(window + 1) else (epoch + 1, 0)
            following = load(self._window, *after) if self.workers else None
            for number in range(first, count):
                yield ready, number
            (epoch, window), first = after, 0
            ready = following if self.workers else load(self._window, *after)

    def _batches_in(self, window: int) -> int:
        done = window * self.settings.window_batches
        return max(0, min(self.settings.window_batches, self.steps_per_epoch - done))

    def _window(self, epoch: int, window: int) -> _Window:
        return _Window.of(self._arrays(epoch, window))

    def _read(self, epoch: int, window: int) -> Arrays:
        ranges = order.window_ranges(self.samples, self.settings, epoch, window)
        samples = Ragged.join([self.reader.range(*r) for r in ranges])
        samples = with_slack(samples, self.reader.manifest.max_length)
        return {
            "ids": samples.ids,
            "offsets": samples.offsets,
            "word_start": samples.word_start,
            "sample_ids": np.concatenate([np.arange(*r) for r in ranges]),
            "batches": order.arrange(samples.lengths, self.settings, epoch, window),
        }

    def _step_of(self, window: Future[_Window], number: int) -> list[Batch]:
        return self._step(window.result(), number)

    def _step(self, window: _Window, number: int) -> list[Batch]:
        micro_batches = order.deal(
            window.batches[number],
            window.samples.lengths,
            self.world,
            self._groups_per_micro_batch,
        )
        return [self._batch(window, positions) for positions in micro_batches]

    def _batch(self, window: _Window, positions: np.ndarray) -> Batch:
        ids, mask, word_start = padded(
            window.samples,
            positions,
            self.reader.manifest.special_ids["pad"],
            self.pad_to_multiple,
            self.reader.manifest.max_length,
        )
        mask = mask.astype(np.int64)
        batch = Batch(
            ids, mask, word_start, window.sample_ids[positions], self.settings.relation_group_size
        )
        ranks = order.ranks_per_group(self.settings.groups, self.world.size)
        if ranks == 1:
            return batch
        return batch.part(order.part_of_group(len(positions), ranks, self.world.rank))

    def _hand_out(self, step: list[Batch]) -> list[Batch]:
        self.state = order.advanced(self.state, self.samples, self.settings)
        return step


def padded(
    samples: Ragged, positions: np.ndarray, pad_id: int, multiple: int, max_length: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(input_ids int64, mask bool, word_start uint8), each [len(positions), L].

    L is the longest of the samples, rounded up to `multiple` but at most `max_length`. Behind the
    last sample there must be L more tokens, whatever they are: see `with_slack`.
    """
    starts = samples.offsets[positions]  # [n]
    lengths = samples.offsets[positions + 1] - starts
    longest = int(lengths.max())
    width = max(longest, min(-(-longest // multiple) * multiple, max_length))
    mask = np.arange(width) < lengths[:, None]  # [n, L]
    # Whole rows of L tokens from where each sample starts are copied fast; what belongs to the
    # next sample is then wiped out.
    ids = np.multiply(sliding_window_view(samples.ids, width)[starts], mask, dtype=np.int64)
    if pad_id != 0:
        ids[~mask] = pad_id
    word_start = sliding_window_view(samples.word_start, width)[starts] * mask
    return ids, mask, word_start


def with_slack(samples: Ragged, slack: int) -> Ragged:
    """The same samples with `slack` more tokens behind the last one."""
    return Ragged(
        np.pad(samples.ids, (0, slack)), samples.offsets, np.pad(samples.word_start, (0, slack))
    )
