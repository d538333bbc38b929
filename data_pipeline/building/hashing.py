"""Hashes of sentences and documents, from which duplicates are found.

Exact duplicates: 128 bits of xxh3 a sentence; over 10^9 sentences the chance that even one is
dropped wrongly is below 10^-20. Near duplicates: MinHash over runs of five characters, its
signature cut into bands (Leskovec et al., Mining of Massive Datasets, chapter 3).
"""

import math
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import xxhash

from data_pipeline.building.records import KINDS, sort_by_hash
from data_pipeline.text.runs import hashed_runs

SHINGLE = 5  # characters
RECALL = 0.9  # of pairs at the threshold
SEED = 42
Similarity = TypeVar("Similarity", float, np.ndarray)


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
    return hashed_runs("".join(document.split()), SHINGLE)


@lru_cache(maxsize=8)
def banding(threshold: float, permutations: int) -> tuple[int, int]:
    """(bands, rows) that find at least 90% of the pairs at the threshold, and least below it.

    For every number of rows as few bands as reach that; of these shapes the one that finds the
    smallest share of pairs below the threshold, integrated over their similarities.
    """
    below = np.linspace(0, threshold, 1001)
    shapes = []
    for rows in range(1, permutations + 1):
        bands = max(1, math.ceil(math.log(1 - RECALL) / math.log1p(-(threshold**rows))))
        if bands * rows <= permutations:
            shapes.append((bands, rows))
    return min(shapes, key=lambda shape: float(found_share(below, *shape).mean()))


def found_share(similarity: Similarity, bands: int, rows: int) -> Similarity:
    """Chance that two documents of a Jaccard similarity s share a band: 1 - (1 - s^rows)^bands."""
    return 1 - (1 - similarity**rows) ** bands


def describe_banding(threshold: float, permutations: int) -> dict[str, Any]:
    """For the manifest: bands, rows, and the share found of pairs of several similarities."""
    bands, rows = banding(threshold, permutations)
    similarities = sorted({0.5, 0.6, 0.7, 0.8, 0.9, threshold})
    shares = {f"{s:g}": round(float(found_share(s, bands, rows)), 4) for s in similarities}
    return {"bands": bands, "rows": rows, "found_share_by_similarity": shares}
