"""Samples at the end of the shards that are kept out of training, in relation groups."""

from pathlib import Path

import numpy as np

from data_pipeline.loading.loader import Batch, padded, with_slack
from data_pipeline.loading.order import part_of_group
from data_pipeline.shards.format import ShardReader


def trained_samples(samples: int, holdout_samples: int, relation_group_size: int) -> int:
    """How many of `samples` remain for training: all but whole groups of the holdout."""
    return samples - holdout_samples // relation_group_size * relation_group_size


def holdout_batches(
    directory: Path | str,
    first: int,
    relation_group_size: int,
    ranks: int = 1,
    rank: int = 0,
    pad_to_multiple: int = 8,
) -> list[Batch]:
    """The samples from number `first` on, sorted by length, as batches of one relation group each;
    always the same. Where `ranks` share a group, the part of it that belongs to `rank`."""
    reader = ShardReader(directory)
    manifest = reader.manifest
    if first == manifest.samples:
        return []
    samples = with_slack(reader.range(first, manifest.samples), manifest.max_length)
    order = np.argsort(samples.lengths[: manifest.samples - first], kind="stable")
    batches = []
    for positions in order.reshape(-1, relation_group_size):
        ids, mask, word_start = padded(
            samples, positions, manifest.special_ids["pad"], pad_to_multiple, manifest.max_length
        )
        mask = mask.astype(np.int64)
        part = part_of_group(relation_group_size, ranks, rank)
        arrays = [array[part] for array in (ids, mask, word_start, positions + first)]
        whole_mask = mask if ranks > 1 else None
        batches.append(Batch(*arrays, relation_group_size, whole_mask))
    return batches
