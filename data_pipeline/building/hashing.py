"""Hashes of sentences and documents, from which duplicates are found.

Exact duplicates: 128 bits of xxh3 a sentence; over 10^9 sentences the chance that even one is
dropped wrongly is below 10^-20. Near duplicates: MinHash over runs of five characters, its
signature cut into bands (Leskovec et al., Mining of Massive Datasets, chapter 3).
"""

from functools import lru_cache

import numpy as np
import xxhash

from data_pipeline.building.records import KINDS, sort_by_hash

SHINGLE = 5  # characters
SEED = 42


def exact_records(sentences: list[str], documents: np.ndarray) -> np.ndarray:
    """One record a sentence, sorted by hash. documents: int [n], the document of each."""
    digests = b"".join(xxhash.xxh3_128_digest(sentence.encode()) for sentence in sentences)
    records = np.empty(len(sentences), KINDS["exact"].dtype)
    halves = np.frombuffer(digests, ">u8").reshape(-1, 2)
    records["hash"], records["hash_rest"] = halves[:, 0], halves[:, 1]
    records["sentence"], records["document"] = np.arange(len(sentences)), documents
    return sort_by_hash(records)


def near_records(documents: list[str], threshold: float, permutations: int) -> np.ndarray:
    """One record a band and document, sorted by hash; none for documents under 5 characters."""
    bands, rows = banding(threshold, permutations)
    numbers, signatures = minhash(documents, permutations)
    parts = signatures[:, : bands * rows].reshape(len(numbers) * bands, rows)
    records = np.empty(len(parts), KINDS["near"].dtype)
    records["hash"] = [xxhash.xxh3_64_intdigest(part.tobytes()) for part in parts]
    records["band"] = np.tile(np.arange(bands), len(numbers))
    records["document"] = np.repeat(numbers, bands)
    return sort_by_hash(records)


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
