"""What the counts of neighbouring tokens tell an encoder before its first step: pure functions.

Word vectors are a truncated singular value decomposition of positive pointwise mutual information
(Levy, Goldberg and Dagan 2015, https://aclanthology.org/Q15-1016), PMI for short below. A neighbour
map says which words a neighbour at one distance makes likely, as a matrix between word vectors.
"""

from collections.abc import Iterable

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import svds

from data_pipeline.text.samples import Ragged

CONTEXT_POWER = 0.75  # of a context's frequency; rare contexts would get too high a PMI otherwise
LENGTH_POWER = 0.5  # of a vector's length: rare words have short vectors, and would never be named
FREQUENCY_POWER = 0.5  # weight of a word in a neighbour map's fit: between all alike and all tokens
FEW = 2.0  # counts of about this size say little: PMI is multiplied by count / (count + FEW)
RIDGE = 1e-3  # of the mean eigenvalue


def neighbour_counts(
    samples: Iterable[Ragged], distance: int, vocab_size: int, special: Iterable[int]
) -> sparse.csr_matrix:
    """Counts [i, j] of a token i with a j `distance` places after it in the same sample.

    Pairs with a special token are not counted. float64 [vocab_size, vocab_size].
    """
    total = sparse.csr_matrix((vocab_size, vocab_size))
    is_special = np.zeros(vocab_size, bool)
    is_special[list(special)] = True
    for part in samples:
        ids = part.ids.astype(np.int64)
        sample = np.repeat(np.arange(len(part)), part.lengths)
        first, second = ids[:-distance], ids[distance:]
        counted = (sample[:-distance] == sample[distance:]) & ~is_special[first]
        counted &= ~is_special[second]
        pairs = (first[counted], second[counted])
        shape = (vocab_size, vocab_size)
        total = total + sparse.coo_matrix((np.ones(len(pairs[0])), pairs), shape=shape).tocsr()
    return total


def positive_pmi(counts: sparse.csr_matrix, few: float = 0.0) -> sparse.csr_matrix:
    """max(0, log(p(i, j) / (p(i) p(j)))) of counts, with p(j) proportional to its count to the
    power of CONTEXT_POWER, times count / (count + few); 0 where nothing was counted."""
    counts = counts.tocoo()
    rows = np.asarray(counts.sum(1)).ravel()
    columns = np.asarray(counts.sum(0)).ravel() ** CONTEXT_POWER
    rows, columns = rows / max(rows.sum(), 1), columns / max(columns.sum(), 1)
    joint = counts.data / max(counts.data.sum(), 1)
    values = np.log(joint / (rows[counts.row] * columns[counts.col]))
    values = np.maximum(values, 0) * counts.data / (counts.data + few)
    return sparse.coo_matrix((values, (counts.row, counts.col)), shape=counts.shape).tocsr()


def word_vectors(
    counts: Iterable[sparse.csr_matrix], size: int, std: float, random: np.random.Generator
) -> np.ndarray:
    """float32 [vocab_size, size] of this standard deviation, from counts at several distances.

    Words that were never counted get the mean vector, 0. The vectors are rotated at random, so that
    no coordinate is more important than another.
    """
    total = sum(counts)
    pmi = positive_pmi((total + total.T).tocsr())
    pmi = (pmi + pmi.T) / 2
    rank = min(size, pmi.shape[0] - 2)
    start = np.full(pmi.shape[0], pmi.shape[0] ** -0.5)  # svds would draw one by itself
    left, values, _ = svds(pmi, k=rank, v0=start)
    vectors = left * np.sqrt(values)
    counted = np.asarray((total + total.T).sum(1)).ravel() > 0
    vectors[counted] -= vectors[counted].mean(0)
    vectors[~counted] = 0
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors /= np.where(lengths > 0, lengths, 1) ** (1 - LENGTH_POWER)
    rotation = np.linalg.qr(random.normal(size=(size, size)))[0][:rank]
    vectors = vectors @ rotation
    return (vectors * (std / max(vectors[counted].std(), 1e-12))).astype(np.float32)


def neighbour_map(
    counts: sparse.csr_matrix, vectors: np.ndarray, frequencies: np.ndarray
) -> np.ndarray:
    """The matrix M [size, size] with vectors M vectors^T as near as can be to the PMI of `counts`.

    Weighted least squares with a small ridge: the error of pair (i, j) counts as much as the
    product of both words' frequencies, each to the power of FREQUENCY_POWER.
    """
    weights = frequencies.astype(np.float64) ** FREQUENCY_POWER
    weights /= max(weights.mean(), 1e-12)
    weighted = weights[:, None] * vectors
    gram = vectors.T @ weighted
    gram += RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    right = weighted.T @ (positive_pmi(counts, FEW) @ weighted)
    return np.linalg.solve(gram, np.linalg.solve(gram, right.T).T)
