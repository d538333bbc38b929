"""Encoded examples, and batches of them that waste little on padding."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from finetune.tasks import Example

WINDOW = 50  # batches whose examples are sorted by length together: little padding, still random


@dataclass
class Encoded:
    """Token ids with [CLS] and [SEP], ragged; `labels` int64 [n], -1 where unknown."""

    input_ids: list[np.ndarray]
    token_type_ids: list[np.ndarray]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each example, int64 [n]."""
        return np.fromiter((len(ids) for ids in self.input_ids), np.int64, len(self))

    def first(self, count: int) -> "Encoded":
        """The first `count` examples."""
        return Encoded(self.input_ids[:count], self.token_type_ids[:count], self.labels[:count])

    def take(self, rows: np.ndarray, length: int | None = None) -> dict[str, np.ndarray]:
        """int64 `input_ids`, `token_type_ids` [B, L], `labels` [B]; L: `length` or the longest."""
        return {
            "input_ids": pad([self.input_ids[row] for row in rows], length),
            "token_type_ids": pad([self.token_type_ids[row] for row in rows], length),
            "labels": self.labels[rows],
        }


def encode(encoder, examples: list[Example], max_length: int) -> Encoded:
    """Encode examples with a `data_pipeline.text.encode.WordPieceEncoder`."""
    pairs = [example.pair or "" for example in examples]
    input_ids, types = encoder.classify(
        [example.text for example in examples], pairs if any(pairs) else None, max_length
    )
    labels = [-1 if example.label is None else example.label for example in examples]
    return Encoded(
        [np.asarray(ids, np.int64) for ids in input_ids],
        [np.asarray(ids, np.int64) for ids in types],
        np.asarray(labels, np.int64),
    )


def pad(rows: list[np.ndarray], length: int | None = None, value: int = 0) -> np.ndarray:
    """int64 [B, L], rows filled up with `value` (the pad id of every BERT vocabulary is 0)."""
    width = length or max(len(row) for row in rows)
    padded = np.full((len(rows), width), value, np.int64)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row
    return padded


def shuffled(lengths: np.ndarray, batch_size: int, seed: int) -> Iterator[np.ndarray]:
    """One epoch of row numbers in batches: random, but of like length inside a window."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(lengths))
    batches = []
    for start in range(0, len(order), batch_size * WINDOW):
        window = order[start : start + batch_size * WINDOW]
        window = window[np.argsort(lengths[window], kind="stable")]
        batches += [window[i : i + batch_size] for i in range(0, len(window), batch_size)]
    for index in random.permutation(len(batches)):
        yield batches[index]


def sorted_by_length(lengths: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """All rows in batches of like length, longest first (the largest allocation comes first)."""
    order = np.argsort(-lengths, kind="stable")
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
