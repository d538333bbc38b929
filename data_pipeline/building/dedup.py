"""Duplicates over a corpus of any size, at a cost that grows with the corpus and not faster.

In a partition (see `records`) every occurrence of a hash but the first, in the order of the
corpus, is dropped. The drops of all partitions are then regrouped into one list a piece, so that
whoever works on a piece reads one list. The lists of a range of pieces, a *group*, are one file.
What is dropped depends neither on the number of partitions nor on who computes them.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from data_pipeline.base.files import whole_file
from data_pipeline.building import piece_file
from data_pipeline.building.plan import Plan
from data_pipeline.building.records import Kind, bucket_range, read_records

ITEM = np.dtype("<u4")  # number of a document or sentence in its piece
EDGE = np.dtype("<i8")
GROUP_SUFFIX = ".drops"
PIECE_SHIFT = np.uint64(32)  # a drop is `piece << 32 | item` in a uint64


def later_occurrences(
    paths: list[Path],
    kind: Kind,
    number: int,
    count: int,
    dropped_documents: Callable[[int], np.ndarray] | None = None,
) -> np.ndarray:
    """What partition `number` of `count` drops: sorted `piece << 32 | item`, uint64, each once.

    paths: the files of all pieces in the order of the corpus. dropped_documents: gives the
    sorted numbers of a piece's documents that are dropped already; their records do not count, so
    that the first occurrence in another document stays.
    """
    buckets = bucket_range(number, count)
    parts, sizes = [], []
    for piece, path in enumerate(paths):
        records = read_records(path, kind, *buckets)
        if dropped_documents is not None and len(records):
            dropped = dropped_documents(piece)
            if len(dropped):
                records = records[~np.isin(records["document"], dropped)]
        parts.append(records)
        sizes.append(len(records))
    records = np.concatenate([np.zeros(0, kind.dtype), *parts])
    del parts
    pieces = np.repeat(np.arange(len(paths), dtype=np.uint64), sizes)
    order = np.argsort(records["hash"], kind="stable")
    first, second = records["hash"][order], records[kind.second_key][order]
    same = order[1:][(first[1:] == first[:-1]) & (second[1:] == second[:-1])]
    return np.unique((pieces[same] << PIECE_SHIFT) | records[kind.item][same])


def regroup(
    partitions: list[Path], first_piece: int, last_piece: int
) -> Iterator[tuple[int, np.ndarray]]:
    """(piece, sorted numbers of what is dropped from it) for pieces first .. last - 1.

    partitions: the files of what each partition drops.
    """
    parts = [np.zeros(0, np.uint64)]
    for path in partitions:
        drops = np.load(path, mmap_mode="r")
        a, b = np.searchsorted(drops, _first_drops([first_piece, last_piece]))
        parts.append(np.array(drops[a:b]))  # a copy: a view would keep the file open
    drops = np.unique(np.concatenate(parts))
    edges = np.searchsorted(drops, _first_drops(range(first_piece, last_piece + 1)))
    for piece, a, b in zip(range(first_piece, last_piece), edges[:-1], edges[1:], strict=True):
        yield piece, drops[a:b].astype(ITEM)  # the lower 32 bits


def _first_drops(pieces: Iterable[int]) -> np.ndarray:
    return np.array(list(pieces), np.uint64) << PIECE_SHIFT


def group_count(drops: int, pieces: int, memory_bytes: int) -> int:
    """In how many groups of pieces to regroup, so that the drops of one fit in memory."""
    needed = -(-drops * 4 * np.dtype(np.uint64).itemsize // memory_bytes)
    return max(1, min(pieces, needed))


def group_range(number: int, count: int, pieces: int) -> tuple[int, int]:
    """The pieces first .. last - 1 of group `number` of `count`."""
    return number * pieces // count, (number + 1) * pieces // count


def group_of(piece: int, count: int, pieces: int) -> int:
    """The group of `count` in whose range a piece is."""
    return ((piece + 1) * count - 1) // pieces


def save_group(path: Path, lists: Iterable[np.ndarray]) -> None:
    """Write the lists of a group: where each begins and where the last one ends, then the lists."""
    lists = list(lists)
    with whole_file(path, sync_folder=False) as temporary, temporary.open("wb") as file:
        file.write(np.cumsum([0, *map(len, lists)]).astype(EDGE).tobytes())
        for one in lists:
            file.write(one.astype(ITEM).tobytes())


def read_layout(plan: Plan, step: str) -> dict[str, int] | None:
    """How the step `near` or `exact` is cut: `partitions`, and once they are done `groups`; None
    before it has begun."""
    try:
        return json.loads(layout_file(plan, step).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def layout_file(plan: Plan, step: str) -> Path:
    """Where that is written."""
    return plan.file(step, 0, ".layout")


class Drops:
    """What the step `near` or `exact` drops from each piece; nothing if the recipe has it off."""

    def __init__(self, plan: Plan, step: str):
        self._plan, self._step, self._groups = plan, step, 0
        if getattr(plan.recipe.dedup, step):
            layout = read_layout(plan, step)
            if layout is None:
                raise FileNotFoundError(f"{layout_file(plan, step)} is missing")
            self._groups = layout["groups"]

    def of(self, piece: int) -> np.ndarray:
        """Sorted numbers of documents (near) or sentences (exact) of the piece, uint32. OSError
        when the file is not whole."""
        if not self._groups:
            return np.zeros(0, ITEM)
        pieces = self._plan.pieces
        group = group_of(piece, self._groups, pieces)
        first, last = group_range(group, self._groups, pieces)
        path = self._plan.file(f"{self._step}_drops", group, GROUP_SUFFIX)
        with path.open("rb") as file:
            file.seek((piece - first) * EDGE.itemsize)
            edges = np.fromfile(file, EDGE, 2)
            if len(edges) == 2:
                begin, end = map(int, edges)
                file.seek((last - first + 1) * EDGE.itemsize + begin * ITEM.itemsize)
                items = np.fromfile(file, ITEM, end - begin)
                if len(items) == end - begin:
                    return items
        raise piece_file.cut_short(path)


def save_array(path: Path, values: np.ndarray) -> None:
    """Write an array whole."""
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.save(file, values)
