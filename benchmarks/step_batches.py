"""The batches of benchmarks/distill_step.py: those of this project's loader, and the same samples
shuffled. Loading them takes this project, holding them numpy alone."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.encoder_sizes import GROUP, UPDATE

Updates = list[list[np.ndarray]]  # of updates, of batches: input_ids [GROUP, L]


def steps(shards: Path, rank: int = 0, ranks: int = 1):
    """Steps of this project's loader, without end; each has a rank's batches of one update."""
    from data_pipeline.loading.loader import Loader
    from data_pipeline.loading.order import OrderSettings, World

    settings = OrderSettings(relation_group_size=GROUP, global_batch_size=UPDATE)
    return iter(Loader(shards, settings, World(rank, ranks), workers=1))


def of_rank(updates: Updates, rank: int, ranks: int) -> Iterator[list[np.ndarray]]:
    """A rank's batches of each update, dealt as `steps` deals them."""
    return iter([batches[rank::ranks] for batches in updates])


def bucketed(shards: Path, updates: int) -> Updates:
    """The first updates of `steps`: each batch has samples of similar length."""
    return [
        [batch.input_ids for batch in batches]
        for batches in itertools.islice(steps(shards), updates)
    ]


def shuffled(updates: Updates) -> Updates:
    """The same samples in random order, each batch padded to its longest, as a loader without
    buckets gives them."""
    samples = [row[row != 0] for batches in updates for ids in batches for row in ids]
    order = iter(np.random.default_rng(0).permutation(len(samples)))
    return [
        [padded([samples[i] for i in itertools.islice(order, len(ids))]) for ids in batches]
        for batches in updates
    ]


def padded(samples: list[np.ndarray]) -> np.ndarray:
    """int64 [samples, longest], 0 after each one's end."""
    ids = np.zeros((len(samples), max(map(len, samples))), np.int64)
    for row, sample in zip(ids, samples, strict=True):
        row[: len(sample)] = sample
    return ids


def save(path: Path, updates: Updates) -> None:
    """Write them for a process without this project."""
    named = {f"{i}.{j}": ids for i, part in enumerate(updates) for j, ids in enumerate(part)}
    np.savez(path, **named)


def load(path: Path) -> Updates:
    """What `save` has written."""
    updates: dict[str, list[np.ndarray]] = {}
    with np.load(path) as arrays:
        for name, ids in arrays.items():
            updates.setdefault(name.split(".")[0], []).append(ids)
    return list(updates.values())
