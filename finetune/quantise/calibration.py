"""Calibration: in which range the inputs of the quantised products lie.

Every method is a function of (Observation, percentile) that gives a threshold T on |x|. The uint8
grid covers the observed range cut to [-T, T] (`activation_grid`), and that grid is what is scored.
A new method is one function and one entry in METHODS, from which the recipe's allowed values
derive. Pure functions of numpy arrays.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

BINS = 2048
LEVELS = 256  # of a uint8 grid


@dataclass
class Observation:
    """Values of one tensor over the calibration batches."""

    lowest: float
    highest: float
    batch_peaks: list[float]
    """Largest |x| of each batch."""
    counts: np.ndarray
    """int64 [BINS], a histogram from `lowest` to `highest`."""

    @property
    def peak(self) -> float:
        """Largest |x|."""
        return max(self.highest, -self.lowest, 1e-8)

    @property
    def centres(self) -> np.ndarray:
        """Middle of each bin, float64 [BINS]."""
        return self.lowest + (np.arange(BINS) + 0.5) / BINS * (self.highest - self.lowest)


def activation_grid(low: float, high: float) -> tuple[np.float32, np.uint8]:
    """float32 scale and uint8 zero point that cover [low, high] and hold 0 exactly."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low) / (LEVELS - 1), 1e-8)
    return np.float32(scale), np.uint8(np.clip(round(-low / scale), 0, LEVELS - 1))


def levels(values: np.ndarray, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 level as int64, value of that level) of each value on the grid of [low, high]."""
    scale, zero = activation_grid(low, high)
    level = np.clip(np.round(values / float(scale)) + int(zero), 0, LEVELS - 1).astype(np.int64)
    return level, (level - int(zero)) * float(scale)


def range_of(observed: Observation, method: str, percentile: float = 99.99) -> tuple[float, float]:
    """(lowest, highest) that the 8-bit grid shall cover; never wider than the observed range."""
    return _cut(observed, METHODS[method](observed, percentile))


def abs_max(observed: Observation, _: float) -> float:
    """The largest |x| observed."""
    return observed.peak


def average_peak(observed: Observation, _: float) -> float:
    """The mean over batches of a batch's largest |x|."""
    return float(np.mean(observed.batch_peaks))


def histogram_percentile(observed: Observation, percentile: float) -> float:
    """The T below which `percentile` percent of the values lie."""
    sizes = np.abs(observed.centres)
    order = np.argsort(sizes, kind="stable")
    share = np.cumsum(observed.counts[order]) / observed.counts.sum()
    return float(sizes[order][min(np.searchsorted(share, percentile / 100), BINS - 1)])


def mean_squared_error(observed: Observation, _: float) -> float:
    """The T whose grid gives the smallest squared error."""
    centres = observed.centres
    limits = np.linspace(0.1, 1.0, 91) * observed.peak
    errors = [
        (observed.counts * (centres - levels(centres, *_cut(observed, limit))[1]) ** 2).sum()
        for limit in limits
    ]
    return float(limits[int(np.argmin(errors))])


def kl_divergence(observed: Observation, _: float) -> float:
    """The T whose histogram on the grid is nearest to the full one.

    Source: Migacz, "8-bit inference with TensorRT", GTC 2017, there for a grid of |x|.
    """
    counts = observed.counts.astype(float)
    at_zero = int(np.argmin(np.abs(observed.centres)))
    counts[at_zero] = counts[[max(at_zero - 1, 0), min(at_zero + 1, BINS - 1)]].max()
    # (exact zeros, as of ReLU, are no part of the shape)
    limits = np.linspace(1 / 16, 1.0, 121) * observed.peak
    divergences = [_divergence(observed, counts, limit) for limit in limits]
    return float(limits[int(np.argmin(divergences))])


def _cut(observed: Observation, limit: float) -> tuple[float, float]:
    return max(observed.lowest, -limit), min(observed.highest, limit)


def _divergence(observed: Observation, counts: np.ndarray, limit: float) -> float:
    """KL(clipped || quantised) of a histogram on the grid that `limit` gives."""
    low, high = _cut(observed, limit)
    inside = np.flatnonzero((observed.centres >= low) & (observed.centres <= high))
    if len(inside) == 0:
        return np.inf
    reference = counts[inside].copy()
    occupied = reference > 0
    level, _ = levels(observed.centres[inside], low, high)
    sums = np.bincount(level, reference, LEVELS)
    used = np.bincount(level, occupied, LEVELS)
    quantised = np.where(occupied, (sums / np.maximum(used, 1))[level], 0.0)
    reference[0] += counts[: inside[0]].sum()  # what is cut off lands on the ends
    reference[-1] += counts[inside[-1] + 1 :].sum()
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
