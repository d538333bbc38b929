"""Duplicates over a corpus of any size, at a cost that grows with the corpus and not faster.

In a partition (see `records`) every occurrence of a hash but the first, in the order of the
corpus, is dropped. The drops of all partitions are then regrouped into one list a piece, so that
whoever works on a piece reads one file. What is dropped depends neither on the number of
partitions nor on who computes them.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from data_pipeline.base.files import whole_file
from data_pipeline.building.plan import Plan
from data_pipeline.building.records import Kind, bucket_range, read_records

PIECE_SHIFT = np.uint64(32)  # a drop is `piece << 32 | item` in a uint64


def later_occurrences(
    paths: list[Path],
    kind: Kind,
    number: int,
    count: int,
    dropped_documents: Callable[[int], np.ndarray] | None = None,
) -> np.ndarray:
    """What partition `number` of `count` drops: sorted `piece << 32 | item`, uint64, each once.

    paths: the record files of all pieces in the order of the corpus. dropped_documents: gives the
    sorted numbers of a piece's documents that are dropped already; their records do not count, so
    that the first occurrence in another document stays.
    """
    buckets = bucket_range(number, count)
    parts, sizes = [], []
    for piece, path in enumerate(paths):
        records = read_records(path, kind.dtype, *buckets)
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
        yield piece, drops[a:b].astype(np.uint32)  # the lower 32 bits


def _first_drops(pieces: Iterable[int]) -> np.ndarray:
    return np.array(list(pieces), np.uint64) << PIECE_SHIFT


def group_count(drops: int, pieces: int, memory_bytes: int) -> int:
    """In how many groups of pieces to regroup, so that the drops of one fit in memory."""
    needed = -(-drops * 4 * np.dtype(np.uint64).itemsize // memory_bytes)
    return max(1, min(pieces, needed))


def dropped(plan: Plan, step: str, piece: int) -> np.ndarray:
    """Sorted numbers of what `step` (near or exact) drops from a piece."""
    if not getattr(plan.recipe.dedup, step):
        return np.zeros(0, np.uint32)
    return np.load(plan.file(f"{step}_drops", piece, ".npy"))


def save_array(path: Path, values: np.ndarray) -> None:
    """Write an array whole."""
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.save(file, values)
