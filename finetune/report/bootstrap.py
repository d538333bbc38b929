"""Scores per example, their means, and paired bootstrap intervals. Pure functions of numpy arrays.

A task's score is a function `of_sums` of a few sums over examples, so an example is k numbers,
`parts[i]` (see `Encoded.parts`). Most scores are a ratio of two sums: (1 or 0, 1) for accuracy,
(2 * hits, predicted + gold) for F1; a correlation is a function of six.

The bootstrap resamples test examples, the same ones for both contenders of a pair (B. Efron 1979;
for pairs of systems: Koehn 2004, W04-3250). What training seeds add is shown apart, as the standard
deviation over runs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from finetune.training.scores import ratio_of_sums

OfSums = Callable[[np.ndarray], np.ndarray]  # sums [..., k] to scores [...]
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


def score(parts: np.ndarray, of_sums: OfSums = ratio_of_sums) -> float:
    """The score of one run on one task; parts [examples, k]."""
    return float(of_sums(parts.sum(0)))


def resampled(runs: np.ndarray, weights: np.ndarray, of_sums: OfSums = ratio_of_sums) -> np.ndarray:
    """Mean score over runs for every resample, [resamples].

    runs: [runs, examples, k]; weights: how often each example is drawn, [resamples, examples].
    """
    return of_sums(np.einsum("be,rep->brp", weights, runs, optimize=True)).mean(1)


def difference(
    ours: dict[str, np.ndarray],
    other: dict[str, np.ndarray],
    seed: int = 0,
    of_sums: OfSums = ratio_of_sums,
) -> Difference:
    """Mean over tasks of (mean over runs of ours - that of other), with a paired bootstrap.

    ours, other: task to [runs, examples, k]; the examples of a task are the same in both. Tasks
    that one of them lacks are left out.
    """
    random = np.random.default_rng(seed)
    points, spread = [], []
    for task in sorted(ours.keys() & other.keys()):
        a, b = ours[task].astype(np.float64), other[task].astype(np.float64)
        count = a.shape[1]
        weights = random.multinomial(count, np.full(count, 1 / count), RESAMPLES)
        means = [np.mean([score(run, of_sums) for run in runs]) for runs in (a, b)]
        points.append(means[0] - means[1])
        resamples = [resampled(runs, weights.astype(np.float64), of_sums) for runs in (a, b)]
        spread.append(resamples[0] - resamples[1])
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
