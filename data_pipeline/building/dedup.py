"""Duplicates over a corpus of any size: records partitioned by hash, each partition by itself.

Every piece leaves one array of records, sorted by hash. A partition is a range of hashes; its
records from all pieces fit in memory, and in it every occurrence of a hash but the first (in the
order of the corpus) is dropped. What is dropped depends neither on the number of partitions nor
on who computes them.

Exact duplicates have one record a sentence, whose hash is 128 bits of xxh3: over 10^9 sentences
the chance that even one is dropped wrongly is below 10^-20. Near duplicates have one record a band
of a document's MinHash signature (Leskovec et al., Mining of Massive Datasets, chapter 3): a
document goes when it shares a band with an earlier one.
"""

import math
from functools import lru_cache
from pathlib import Path

import numpy as np
import xxhash

from data_pipeline.base.files import whole_file

RECORD = np.dtype([("high", "<u8"), ("low", "<u8"), ("item", "<u4"), ("document", "<u4")])
DROPPED = np.dtype([("piece", "<u4"), ("item", "<u4")])
BYTES_IN_MEMORY = 5 * RECORD.itemsize  # per record, sorting counted
SHINGLE = 5
SEED = 42


def exact_records(sentences: list[str], documents: np.ndarray) -> np.ndarray:
    """One record a sentence, sorted by hash. documents: int [n], the document of each."""
    digests = b"".join(xxhash.xxh3_128_digest(sentence.encode()) for sentence in sentences)
    records = np.empty(len(sentences), RECORD)
    words = np.frombuffer(digests, ">u8").reshape(-1, 2)
    records["high"], records["low"] = words[:, 0], words[:, 1]
    records["item"], records["document"] = np.arange(len(sentences)), documents
    return by_hash(records)


def near_records(documents: list[str], threshold: float, permutations: int) -> np.ndarray:
    """One record a band and document, sorted by hash; none for documents under 5 characters."""
    bands, rows = banding(threshold, permutations)
    numbers, signatures = minhash(documents, permutations)
    parts = signatures[:, : bands * rows].reshape(len(numbers) * bands, rows)
    records = np.empty(len(parts), RECORD)
    records["high"] = [xxhash.xxh3_64_intdigest(part.tobytes()) for part in parts]
    records["low"] = np.tile(np.arange(bands), len(numbers))
    records["item"] = records["document"] = np.repeat(numbers, bands)
    return by_hash(records)


def minhash(documents: list[str], permutations: int) -> tuple[np.ndarray, np.ndarray]:
    """(numbers of the documents that have shingles, their signatures uint32 [n, permutations])."""
    import rensa

    hashed = [shingles(document) for document in documents]
    numbers = np.array([i for i, h in enumerate(hashed) if len(h)], np.int64)
    if len(numbers) == 0:
        return numbers, np.zeros((0, permutations), np.uint32)
    offsets = np.cumsum([0, *(len(hashed[i]) for i in numbers)]).astype(np.uint64)
    matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(
        np.concatenate([hashed[i] for i in numbers]), offsets, permutations, SEED
    )
    return numbers, np.array(matrix.to_rows(), np.uint32)


def shingles(document: str) -> np.ndarray:
    """Distinct hashes of all runs of five characters, blanks left out, uint64."""
    codes = np.frombuffer("".join(document.split()).encode("utf-32-le"), np.uint32)
    if len(codes) < SHINGLE:
        return np.zeros(0, np.uint64)
    values = np.zeros(len(codes) - SHINGLE + 1, np.uint64)
    for i in range(SHINGLE):
        values = values * np.uint64(0x9E3779B97F4A7C15) + codes[i : i + len(values)]
    return np.unique(values ^ (values >> np.uint64(29)))


@lru_cache(maxsize=8)
def banding(threshold: float, permutations: int) -> tuple[int, int]:
    """(bands, rows) whose chance of a wrong answer, integrated over all similarities, is least.

    A pair of Jaccard similarity s shares a band with probability 1 - (1 - s^rows)^bands.
    """

    def wrong(bands: int, rows: int) -> float:
        s = np.linspace(0, 1, 1001)
        found = 1 - (1 - s**rows) ** bands
        return float(np.where(s < threshold, found, 1 - found).mean())

    shapes = [(permutations // rows, rows) for rows in range(1, permutations + 1)]
    return min(shapes, key=lambda shape: wrong(*shape))


def by_hash(records: np.ndarray) -> np.ndarray:
    """Sorted by the first 64 bits; equal ones stay in the order of the corpus."""
    return records[np.argsort(records["high"], kind="stable")]


def partitions(records: int, memory_mb: int) -> int:
    """How many partitions keep one within `memory_mb`."""
    return max(1, math.ceil(records * BYTES_IN_MEMORY / (memory_mb * 2**20)))


def later_occurrences(
    pieces: list[Path], number: int, count: int, without: list[np.ndarray] | None = None
) -> np.ndarray:
    """What partition `number` of `count` drops: DROPPED records, sorted, each once.

    pieces: the record files in the order of the corpus. without: per piece the sorted numbers of
    documents that are gone already, so that the first occurrence in another one stays.
    """
    held, origin = [], []
    for piece, path in enumerate(pieces):
        records = _range(np.load(path, mmap_mode="r"), number, count)
        if without is not None and len(without[piece]):
            records = records[~np.isin(records["document"], without[piece])]
        held.append(records)
        origin.append(np.full(len(records), piece, np.uint32))
    records, origin = np.concatenate(held), np.concatenate(origin)
    order = np.argsort(records["high"], kind="stable")
    records, origin = records[order], origin[order]
    same = (records["high"][1:] == records["high"][:-1]) & (
        records["low"][1:] == records["low"][:-1]
    )
    dropped = np.empty(int(same.sum()), DROPPED)
    dropped["piece"], dropped["item"] = origin[1:][same], records["item"][1:][same]
    return np.unique(dropped)


def dropped_of(partitions: list[Path], piece: int) -> np.ndarray:
    """Sorted numbers of what all partitions together drop from one piece."""
    found = []
    for path in partitions:
        dropped = np.load(path, mmap_mode="r")
        a, b = np.searchsorted(dropped["piece"], [piece, piece + 1])
        found.append(dropped["item"][a:b])
    return np.unique(np.concatenate([np.zeros(0, np.uint32), *found]))


def save(path: Path, records: np.ndarray) -> None:
    """Write an array whole."""
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.save(file, records)


def _range(records: np.ndarray, number: int, count: int) -> np.ndarray:
    edges = [(number * 2**64) // count, ((number + 1) * 2**64) // count]
    high = records["high"]
    first = np.searchsorted(high, np.uint64(edges[0]))
    last = len(high) if edges[1] == 2**64 else np.searchsorted(high, np.uint64(edges[1]))
    # A copy: a view would keep the file mapped, and what is mapped of all files adds up.
    return np.array(records[first:last])
