"""Record files: what finding duplicates needs of one piece, sorted by hash.

A *bucket* is all records whose hash begins with the same 12 bits; a file begins with the place of
each bucket, so that a range of buckets is one read. A *partition* is a range of buckets of all
pieces together; its records fit in memory.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_pipeline.base.files import whole_file

BUCKET_BITS = 12
BUCKETS = 1 << BUCKET_BITS
INDEX = np.dtype("<i8")  # number of the first record of each bucket, and of all records


class Kind(NamedTuple):
    """What one kind of duplicates is found by."""

    dtype: np.dtype
    second_key: str
    """Records are alike when `hash` and this field are equal."""
    item: str
    """The field that is dropped: a sentence or a document, by its number in the piece."""


KINDS = {
    # One record a sentence. The 128 bits of its hash are `hash` and `hash_rest`.
    "exact": Kind(
        np.dtype([("hash", "<u8"), ("hash_rest", "<u8"), ("sentence", "<u4"), ("document", "<u4")]),
        "hash_rest",
        "sentence",
    ),
    # One record a band of a document's MinHash signature.
    "near": Kind(
        np.dtype([("hash", "<u8"), ("band", "<u4"), ("document", "<u4")]), "band", "document"
    ),
}


def sort_by_hash(records: np.ndarray) -> np.ndarray:
    """Sorted by `hash`; equal ones stay in the order of the corpus."""
    return records[np.argsort(records["hash"], kind="stable")]


def write_records(path: Path, records: np.ndarray) -> None:
    """Write a record file; `records` are sorted by hash."""
    buckets = (records["hash"] >> np.uint64(64 - BUCKET_BITS)).astype(np.int64)
    index = np.searchsorted(buckets, np.arange(BUCKETS + 1)).astype(INDEX)
    with whole_file(path) as temporary, temporary.open("wb") as file:
        file.write(index.tobytes())
        file.write(records.tobytes())


def read_records(path: Path, dtype: np.dtype, first: int, last: int) -> np.ndarray:
    """The records of buckets first .. last - 1. The file is closed again: no descriptor stays."""
    with path.open("rb") as file:
        index = np.fromfile(file, INDEX, BUCKETS + 1)
        if len(index) != BUCKETS + 1:
            raise OSError(f"{path} is cut short")
        start, stop = int(index[first]), int(index[last])
        file.seek(index.nbytes + start * dtype.itemsize)
        records = np.fromfile(file, dtype, stop - start)
    if len(records) != stop - start:
        raise OSError(f"{path} is cut short")
    return records


def partition_count(records: int, kind: Kind, memory_bytes: int) -> int:
    """How many partitions keep each within `memory_bytes`: a power of two, at most one a bucket.

    In memory a record takes five times its size: what was read, the same sorted, the order.
    """
    needed = records * 5 * kind.dtype.itemsize / memory_bytes
    count = 1
    while count < needed and count < BUCKETS:
        count *= 2
    return count


def bucket_range(number: int, count: int) -> tuple[int, int]:
    """The buckets first .. last - 1 of partition `number` of `count`."""
    return number * BUCKETS // count, (number + 1) * BUCKETS // count
