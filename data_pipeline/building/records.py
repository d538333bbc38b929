"""Records: what finding duplicates needs of one piece, sorted by hash, a section of its file.

A *bucket* is all records whose hash begins with the same 12 bits; a section begins with the place
of each bucket, so that a range of buckets is one read. A *partition* is a range of buckets of all
pieces together; its records fit in memory.
"""

from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from data_pipeline.building import piece_file

BUCKET_BITS = 12
BUCKETS = 1 << BUCKET_BITS
INDEX = np.dtype("<i8")  # number of the first record of each bucket, and of all records


class Kind(NamedTuple):
    """What one kind of duplicates is found by."""

    section: str
    """Of the file of a piece."""
    dtype: np.dtype
    second_key: str
    """Records are alike when `hash` and this field are equal."""
    item: str
    """The field that is dropped: a sentence or a document, by its number in the piece."""


KINDS = {
    # One record a sentence. The 128 bits of its hash are `hash` and `hash_rest`.
    "exact": Kind(
        "exact",
        np.dtype([("hash", "<u8"), ("hash_rest", "<u8"), ("sentence", "<u4"), ("document", "<u4")]),
        "hash_rest",
        "sentence",
    ),
    # One record a band of a document's MinHash signature.
    "near": Kind(
        "near",
        np.dtype([("hash", "<u8"), ("band", "<u4"), ("document", "<u4")]),
        "band",
        "document",
    ),
}


def sort_by_hash(records: np.ndarray) -> np.ndarray:
    """Sorted by `hash`; equal ones stay in the order of the corpus."""
    return records[np.argsort(records["hash"], kind="stable")]


def write_records(file: BinaryIO, records: np.ndarray) -> None:
    """Write a section of records; they are sorted by hash."""
    buckets = (records["hash"] >> np.uint64(64 - BUCKET_BITS)).astype(np.int64)
    index = np.searchsorted(buckets, np.arange(BUCKETS + 1)).astype(INDEX)
    file.write(index.tobytes())
    file.write(records.tobytes())


def read_records(path: Path, kind: Kind, first: int, last: int) -> np.ndarray:
    """The records of buckets first .. last - 1 of the file of a piece. OSError when it is not
    whole. The file is closed again: no descriptor stays."""
    size = kind.dtype.itemsize
    with piece_file.section(path, kind.section) as (file, length):
        begin = file.tell()
        index = np.frombuffer(file.read((BUCKETS + 1) * INDEX.itemsize), INDEX)
        if len(index) != BUCKETS + 1 or length != index.nbytes + int(index[-1]) * size:
            raise piece_file.cut_short(path)
        start, stop = int(index[first]), int(index[last])
        file.seek(begin + index.nbytes + start * size)
        return np.fromfile(file, kind.dtype, stop - start)


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
