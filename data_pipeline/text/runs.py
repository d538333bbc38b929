"""Hashes of runs of characters, by which texts are compared."""

import numpy as np

MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, odd


def hashed_runs(text: str, length: int) -> np.ndarray:
    """Distinct hashes of all runs of `length` characters, uint64 in rising order."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    return np.unique(run_hashes(codes, length))


def run_hashes(codes: np.ndarray, length: int) -> np.ndarray:
    """A hash of the `length` codes from each place on: uint64 [max(n - length + 1, 0)] of
    uint32 [n]."""
    if len(codes) < length:
        return np.zeros(0, np.uint64)
    values = np.zeros(len(codes) - length + 1, np.uint64)
    for i in range(length):
        values = values * MULTIPLIER + codes[i : i + len(values)]
    return values ^ (values >> np.uint64(29))


def whole_hash(codes: np.ndarray) -> np.ndarray:
    """A hash of all codes together, uint64 [1], other than that of a run."""
    value = np.array([len(codes) + 1], np.uint64)
    for code in codes:
        value = value * MULTIPLIER + np.uint64(code)
    return value
