"""Samples as the pipeline passes them on: ragged, never padded."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Ragged:
    """Consecutive samples: `ids` [tokens], `offsets` int64 [n + 1], `word_start` uint8 [tokens]."""

    ids: np.ndarray
    offsets: np.ndarray
    word_start: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each sample, int64 [n]."""
        return np.diff(self.offsets)

    @classmethod
    def join(cls, parts: Sequence["Ragged"]) -> "Ragged":
        """One after the other."""
        if len(parts) == 1:
            return parts[0]
        parts = [cls(np.zeros(0, np.uint16), np.zeros(1, np.int64), np.zeros(0, np.uint8)), *parts]
        lengths = np.concatenate([part.lengths for part in parts])
        return cls(
            np.concatenate([part.ids for part in parts]),
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            np.concatenate([part.word_start for part in parts]),
        )

    def checksum(self) -> str:
        """Digest of the content, whatever the compression or the library that stored it."""
        digest = hashlib.sha256()
        for start in range(0, len(self.ids), 1 << 20):  # in parts, to save memory
            digest.update(self.ids[start : start + (1 << 20)].astype("<u4").tobytes())
        digest.update(self.offsets.astype("<i8").tobytes())
        digest.update(np.packbits(self.word_start, bitorder="little").tobytes())
        return digest.hexdigest()
