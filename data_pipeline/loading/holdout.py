"""Samples at the end of the shards that are kept out of training, in relation groups."""

from pathlib import Path

import numpy as np

from data_pipeline.loading.loader import Batch, padded, with_slack
from data_pipeline.shards.format import ShardReader


def trained_samples(samples: int, holdout_samples: int, relation_group_size: int) -> int:
    """How many of `samples` remain for training: all but whole groups of the holdout."""
    return samples - holdout_samples // relation_group_size * relation_group_size


def holdout_batches(
    directory: Path | str, first: int, relation_group_size: int, pad_to_multiple: int = 8
) -> list[Batch]:
    """The samples from number `first` on, sorted by length, as batches of one relation group each;
    always the same."""
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
        numbers = positions + first
        batches.append(Batch(ids, mask.astype(np.int64), word_start, numbers, relation_group_size))
    return batches
