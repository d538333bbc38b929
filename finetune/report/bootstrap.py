"""Scores on resampled examples: paired bootstrap intervals. Pure functions.

The bootstrap resamples test examples, the same ones for both contenders of a pair (B. Efron 1979;
for pairs of systems: Koehn 2004, W04-3250). What training seeds add is shown apart, as the standard
deviation over runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from finetune.training.scores import SampledScore

RESAMPLES = 2000
AT_ONCE = 100  # resamples that are scored together: some scores need an array [resamples, examples]
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


def draws(examples: int, random: np.random.Generator) -> np.ndarray:
    """How often each example is in each resample, int64 [RESAMPLES, examples]."""
    return random.multinomial(examples, np.full(examples, 1 / examples), RESAMPLES)


def resampled(runs: Sequence[SampledScore], weights: np.ndarray) -> np.ndarray:
    """Mean score over runs for every resample, [resamples]; weights: those of `draws`."""
    blocks = np.array_split(weights, -(-len(weights) // AT_ONCE))
    scores = [np.mean([run.of(block.astype(np.float64)) for run in runs], 0) for block in blocks]
    return np.concatenate(scores)


def interval(score: SampledScore, seed: int = 0) -> tuple[float, float]:
    """95% interval of a score."""
    weights = draws(score.examples, np.random.default_rng(seed))
    low, high = np.percentile(resampled([score], weights), INTERVAL)
    return float(low), float(high)


def difference(
    ours: dict[str, list[SampledScore]], other: dict[str, list[SampledScore]], seed: int = 0
) -> Difference:
    """Mean over tasks of (mean over runs of ours - that of other), with a paired bootstrap.

    ours, other: task to runs; the examples of a task are the same in both. Tasks that one of them
    lacks are left out.
    """
    random = np.random.default_rng(seed)
    points, spread = [], []
    for task in sorted(ours.keys() & other.keys()):
        weights = draws(ours[task][0].examples, random)
        means = [np.mean([run.value for run in runs[task]]) for runs in (ours, other)]
        points.append(means[0] - means[1])
        spread.append(resampled(ours[task], weights) - resampled(other[task], weights))
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
