"""Scores per example, their means, and paired bootstrap intervals. Pure functions of numpy arrays.

A task's score is either a mean over examples (accuracy) or a ratio of sums over examples (entity
F1). Both are ratios of two sums, so an example is two numbers, `parts[i] = (numerator,
denominator)`: (1 or 0, 1) for accuracy, (2 * hits, predicted + gold entities) for F1.

The bootstrap resamples test examples, the same ones for both contenders of a pair (B. Efron 1979;
for pairs of systems: Koehn 2004, W04-3250). What training seeds add is shown apart, as the standard
deviation over runs.
"""

from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
INTERVAL = (2.5, 97.5)  # percentiles


@dataclass(frozen=True)
class Difference:
    """Mean score of one contender minus that of another, in points, with its 95% interval."""

    points: float
    low: float
    high: float

    @property
    def is_outside(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{self.points:+.1f} [{self.low:+.1f}, {self.high:+.1f}]"


def score(parts: np.ndarray) -> float:
    """The score of one run on one task, 0 to 1; parts [examples, 2]."""
    numerator, denominator = parts.sum(0)
    return float(numerator / denominator) if denominator else 0.0


def resampled(runs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean score over runs for every resample, [resamples].

    runs: [runs, examples, 2]; weights: how often each example is drawn, [resamples, examples].
    """
    sums = np.einsum("be,rep->brp", weights, runs, optimize=True)
    return (sums[..., 0] / np.maximum(sums[..., 1], 1e-12)).mean(1)


def difference(
    ours: dict[str, np.ndarray], other: dict[str, np.ndarray], seed: int = 0
) -> Difference:
    """Mean over tasks of (mean over runs of ours - that of other), with a paired bootstrap.

    ours, other: task to [runs, examples, 2]; the examples of a task are the same in both. Tasks
    that one of them lacks are left out.
    """
    random = np.random.default_rng(seed)
    points, spread = [], []
    for task in sorted(ours.keys() & other.keys()):
        a, b = ours[task].astype(np.float64), other[task].astype(np.float64)
        count = a.shape[1]
        weights = random.multinomial(count, np.full(count, 1 / count), RESAMPLES)
        points.append(np.mean([score(run) for run in a]) - np.mean([score(run) for run in b]))
        spread.append(resampled(a, weights.astype(np.float64)) - resampled(b, weights))
    low, high = np.percentile(np.mean(spread, 0), INTERVAL)
    return Difference(100 * float(np.mean(points)), 100 * float(low), 100 * float(high))


def mean_and_deviation(values: list[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (0 of a single value)."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def spread_over_seeds(scores: dict[int, list[float]]) -> float:
    """Sample standard deviation of the means of pre-training seeds; of one seed, of its runs."""
    if len(scores) > 1:
        return mean_and_deviation([float(np.mean(values)) for values in scores.values()])[1]
    return mean_and_deviation(next(iter(scores.values())))[1]
