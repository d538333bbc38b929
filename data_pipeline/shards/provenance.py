"""Where samples come from: for each the source, the file and the number of the document in it.

Kept in the shards beside the samples, where only `inspect` reads it. Files are numbers of lines of
inputs.jsonl.zst in the same directory.
"""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

INPUTS = "inputs.jsonl.zst"


@dataclass(frozen=True)
class Provenance:
    """Of n samples, or of n documents."""

    source: np.ndarray
    """uint16 [n]: index into the recipe's sources."""
    input: np.ndarray
    """uint32 [n]: number of the file in the list of inputs."""
    document: np.ndarray
    """int64 [n]: number of the document in the file, from 0. Of a sample that holds parts of
    several documents (`pack: corpus`), the first of them."""

    def __len__(self) -> int:
        return len(self.source)

    def take(self, numbers: np.ndarray) -> "Provenance":
        """Of these samples or documents only."""
        return Provenance(self.source[numbers], self.input[numbers], self.document[numbers])

    @classmethod
    def join(cls, parts: list["Provenance"]) -> "Provenance":
        """One after the other."""
        empty = cls(np.zeros(0, np.uint16), np.zeros(0, np.uint32), np.zeros(0, np.int64))
        columns = ([getattr(part, name) for part in (empty, *parts)] for name in COLUMNS)
        return cls(*map(np.concatenate, columns))


COLUMNS = tuple(Provenance.__dataclass_fields__)


def read_inputs(path: Path) -> list[list[Any]]:
    """[path, bytes, encoding, time] of each input; empty when there is no list."""
    try:
        with (
            path.open("rb") as file,
            zstandard.ZstdDecompressor().stream_reader(file) as stream,
            io.TextIOWrapper(stream, "utf-8", "surrogateescape", newline="\n") as lines,
        ):
            return [json.loads(line) for line in lines if line.strip()]
    except FileNotFoundError:
        return []
