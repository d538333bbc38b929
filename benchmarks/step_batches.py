"""The batches of benchmarks/distill_step.py: this project's own, and the same samples shuffled."""

import argparse
import itertools

import numpy as np

from benchmarks.encoder_sizes import GROUP


def grouped(options: argparse.Namespace):
    """Steps of this project's loader, without end; each is one batch of one relation group."""
    from data_pipeline.loading.loader import Loader
    from data_pipeline.loading.order import OrderSettings

    settings = OrderSettings(relation_group_size=GROUP, global_batch_size=GROUP)
    return iter(Loader(options.shards, settings, workers=1))


def sample_lists(options: argparse.Namespace) -> list[list[list[int]]]:
    """The samples of a batch to warm up with and of the timed ones, as plain lists."""
    lists = []
    for (batch,) in itertools.islice(grouped(options), options.batches + 1):
        lengths = batch.attention_mask.sum(axis=1)
        lists.append([row[:n].tolist() for row, n in zip(batch.input_ids, lengths, strict=True)])
    return lists


def shuffled(lists: list[list[list[int]]]) -> list[np.ndarray]:
    """The timed samples in random order, padded to each batch's longest, as a loader without
    buckets gives them: input_ids [16, L]."""
    timed = [sample for batch in lists[1:] for sample in batch]
    order = np.random.default_rng(0).permutation(len(timed))
    batches = [lists[0], *([timed[i] for i in part] for part in order.reshape(-1, GROUP))]
    padded = []
    for batch in batches:
        ids = np.zeros((len(batch), max(map(len, batch))), np.int64)
        for row, sample in zip(ids, batch, strict=True):
            row[: len(sample)] = sample
        padded.append(ids)
    return padded
