"""Where the documents of a piece come from, passed on from the first step to the last."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import zstandard

from data_pipeline.base.files import write_atomically
from data_pipeline.building import piece_file, spill
from data_pipeline.building.documents import Place
from data_pipeline.building.plan import Plan
from data_pipeline.shards.provenance import Provenance
from data_pipeline.sources.parts import Input, Part

COLUMN = np.dtype("<i8")  # of each of the five columns of a piece's documents on disk
BEFORE = np.dtype("<i8")  # of the two numbers of each piece in .before


@dataclass(frozen=True)
class Documents:
    """The documents of a piece that are left after cleaning, in order."""

    provenance: Provenance
    characters: np.ndarray
    """int64 [n]."""
    sentences: np.ndarray
    """int64 [n]."""


class Collector:
    """Collects them while a piece is read."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, int, int, int]] = []

    def add(self, places: list[Place], block: list[spill.Document]) -> None:
        """The next documents."""
        self._rows += [
            (place.part, place.document, sum(map(len, document)), len(document))
            for place, document in zip(places, block, strict=True)
        ]

    def save(
        self,
        made: piece_file.Writer,
        parts: list[tuple[Input, Part]],
        part_documents: list[int],
    ) -> None:
        """Write them. Documents of a file are counted from where the piece begins."""
        part, document, characters, sentences = np.array(self._rows, np.int64).reshape(-1, 4).T
        inputs = [one.input for _, one in parts]
        before = np.array(_counted_before(inputs, part_documents), np.int64)
        document = document + before[part]
        columns = np.array(
            [
                np.array([entry.source for entry, _ in parts], np.int64)[part],
                np.array(inputs, np.int64)[part],
                # Differences are nearly all 1, and so take next to no place.
                np.diff(document, prepend=0),
                characters,
                sentences,
            ],
            COLUMN,
        )
        with made.section("documents") as file:
            file.write(zstandard.compress(columns.tobytes(), 3))


def _counted_before(inputs: list[int], counts: list[int]) -> list[int]:
    """For each part the number of documents of the same input in the parts right before it."""
    before, current, total = [], None, 0
    for number, count in zip(inputs, counts, strict=True):
        total = total if number == current else 0
        before.append(total)
        current, total = number, total + count
    return before


def edges(inputs: list[int], part_documents: list[int]) -> tuple[int, int, int]:
    """(input in which a piece begins, input in which it ends, documents of that in the piece)."""
    last = inputs[-1]
    count = sum(n for number, n in zip(inputs, part_documents, strict=True) if number == last)
    return inputs[0], last, count


def count_before_pieces(plan: Plan, read: Iterable[dict[str, Any]]) -> None:
    """Write down in which file each piece begins, and how many documents of it lie before.

    read: results of the step `read`.
    """
    before, current, total = [], None, 0
    for result in read:
        first, last, count = result["edges"]
        before.append([first, total if first == current else 0])
        total = count + (total if first == last == current else 0)
        current = last
    write_atomically(plan.file("write", 0, ".before"), np.array(before, BEFORE).tobytes())


def load(plan: Plan, piece: int) -> Documents:
    """The documents of a piece."""
    # Only what belongs to the piece: all pieces together would read the square of their number.
    place = 2 * BEFORE.itemsize * piece
    first_input, before = np.fromfile(plan.file("write", 0, ".before"), BEFORE, 2, offset=place)
    path = plan.file("read", piece, piece_file.SUFFIX)
    with piece_file.section(path, "documents") as (file, length):
        data = zstandard.decompress(file.read(length))
    source, entry, steps, characters, sentences = np.frombuffer(data, COLUMN).reshape(5, -1)
    document = np.cumsum(steps) + np.where(entry == first_input, before, 0)
    provenance = Provenance(source.astype(np.uint16), entry.astype(np.uint32), document)
    return Documents(provenance, characters, sentences)
