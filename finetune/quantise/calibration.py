"""Calibration: in which range the inputs of the quantised products lie.

Every method is a function of (Observation, percentile) that gives a threshold T on |x|; the 8-bit
grid covers the observed range cut to [-T, T]. A new method is one function and one entry in
METHODS, from which the recipe's allowed values derive. Pure functions of numpy arrays.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

BINS = 2048
LEVELS = 128  # of |x| in 8 bits


@dataclass
class Observation:
    """Values of one tensor over the calibration batches."""

    lowest: float
    highest: float
    batch_peaks: list[float]
    """Largest |x| of each batch."""
    counts: np.ndarray
    """int64 [BINS], a histogram of |x| from 0 to `peak`."""

    @property
    def peak(self) -> float:
        """Largest |x|."""
        return max(self.highest, -self.lowest, 1e-8)


def range_of(observed: Observation, method: str, percentile: float = 99.99) -> tuple[float, float]:
    """(lowest, highest) that the 8-bit grid shall cover; never wider than the observed range."""
    limit = METHODS[method](observed, percentile)
    return max(observed.lowest, -limit), min(observed.highest, limit)


def abs_max(observed: Observation, _: float) -> float:
    """The largest |x| observed."""
    return observed.peak


def average_peak(observed: Observation, _: float) -> float:
    """The mean over batches of a batch's largest |x|."""
    return float(np.mean(observed.batch_peaks))


def histogram_percentile(observed: Observation, percentile: float) -> float:
    """The T below which `percentile` percent of the values lie."""
    share = np.cumsum(observed.counts) / observed.counts.sum()
    return float((np.searchsorted(share, percentile / 100) + 1) / BINS * observed.peak)


def mean_squared_error(observed: Observation, _: float) -> float:
    """The T whose 8-bit grid gives the smallest squared error."""
    centres = (np.arange(BINS) + 0.5) / BINS * observed.peak
    limits = np.linspace(0.1, 1.0, 91) * observed.peak
    steps = limits / (LEVELS - 1)
    errors = [
        (
            observed.counts
            * (centres - np.minimum(np.round(centres / step), LEVELS - 1) * step) ** 2
        ).sum()
        for step in steps
    ]
    return float(limits[int(np.argmin(errors))])


def kl_divergence(observed: Observation, _: float) -> float:
    """The T whose 8-bit histogram is nearest to the full one.

    Source: Migacz, "8-bit inference with TensorRT", GTC 2017.
    """
    counts = observed.counts.astype(float)
    counts[0] = counts[1]  # exact zeros (padding, ReLU) are no part of the shape
    candidates = range(LEVELS, BINS + 1, 16)
    divergences = [_divergence(counts, size) for size in candidates]
    return float(candidates[int(np.argmin(divergences))] / BINS * observed.peak)


def _divergence(counts: np.ndarray, size: int) -> float:
    """KL(clipped || quantised) when the first `size` bins are put on LEVELS levels."""
    reference = counts[:size].copy()
    occupied = reference > 0
    level = np.arange(size) * LEVELS // size
    sums = np.bincount(level, counts[:size], LEVELS)
    used = np.bincount(level, occupied, LEVELS)
    quantised = np.where(occupied, (sums / np.maximum(used, 1))[level], 0.0)
    reference[-1] += counts[size:].sum()  # what is cut off lands on the last value
    occupied = (reference > 0) & (quantised > 0)
    p = reference / reference.sum()
    q = quantised / max(quantised.sum(), 1e-12)
    missing = p[(reference > 0) & (quantised <= 0)].sum()
    return float((p[occupied] * np.log(p[occupied] / q[occupied])).sum() + 10 * missing)


METHODS: dict[str, Callable[[Observation, float], float]] = {
    "abs_max": abs_max,
    "avg": average_peak,
    "mse": mean_squared_error,
    "hist": histogram_percentile,
    "KL": kl_divergence,
}
