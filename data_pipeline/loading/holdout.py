"""Which samples are kept out of training, and batches of them, in relation groups."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_pipeline.loading.loader import Batch, padded, with_slack
from data_pipeline.loading.order import part_of_group
from data_pipeline.shards.format import HOLDOUT, MANIFEST, Manifest, ShardReader


@dataclass(frozen=True)
class Split:
    """What is trained on and what is held out."""

    trained_samples: int
    """Only the first so many samples of the shards are trained on."""
    directory: Path
    """The shards in which the held-out samples are."""
    numbers: np.ndarray
    """int64 [n]: their numbers in it, rising; whole relation groups."""


def split(
    directory: Path, manifest: Manifest, holdout_samples: int, relation_group_size: int
) -> Split:
    """The one rule: up to `holdout_samples` of the documents that the build has held out
    (`directory`/holdout), spread evenly over them; where it has held none out, the last samples of
    the shards themselves.

    manifest: of `directory`. UserError when the manifest of the held-out shards is not readable.
    """
    wanted = holdout_samples // relation_group_size * relation_group_size
    aside = Path(directory) / HOLDOUT
    if (aside / MANIFEST).exists():
        there = Manifest.read(aside).samples
        count = min(wanted, there // relation_group_size * relation_group_size)
        return Split(manifest.samples, aside, np.arange(count) * there // max(count, 1))
    first = manifest.samples - wanted
    return Split(first, Path(directory), np.arange(first, manifest.samples))


def holdout_batches(
    held: Split, relation_group_size: int, ranks: int = 1, rank: int = 0, pad_to_multiple: int = 8
) -> list[Batch]:
    """The held-out samples, sorted by length, as batches of one relation group each; always the
    same. Where `ranks` share a group, the part of it that belongs to `rank`."""
    if len(held.numbers) == 0:
        return []
    reader = ShardReader(held.directory)
    manifest = reader.manifest
    first, stop = int(held.numbers[0]), int(held.numbers[-1]) + 1
    samples = with_slack(reader.range(first, stop), manifest.max_length)
    places = held.numbers - first
    order = places[np.argsort(samples.lengths[places], kind="stable")]
    batches = []
    for positions in order.reshape(-1, relation_group_size):
        ids, mask, word_start = padded(
            samples, positions, manifest.special_ids["pad"], pad_to_multiple, manifest.max_length
        )
        mask = mask.astype(np.int64)
        batch = Batch(ids, mask, word_start, positions + first, relation_group_size)
        if ranks > 1:
            batch = batch.part(part_of_group(relation_group_size, ranks, rank))
        batches.append(batch)
    return batches
