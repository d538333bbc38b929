"""Scores of predictions against labels, by kind of task.

A score is a function of its kind's columns, arrays with a row for each example (`Encoded.columns`),
and of `weights` [..., n], how often each row is counted: once by default. So the scores [...] of
many samples of the examples are one call. Every score is better when it is larger.

A new score is one function and one entry in its kind's table; the recipe's allowed values derive
from these tables.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Weights = np.ndarray | None
Score = Callable[..., np.ndarray]  # of columns and `weights`


@dataclass(frozen=True)
class SampledScore:
    """A score of given predictions on any sample of a number of examples."""

    examples: int
    of: Callable[[np.ndarray], np.ndarray]
    """Of how often each example is in a sample, float64 [..., examples], to scores [...]."""

    @property
    def value(self) -> float:
        """The score on all examples."""
        return float(self.of(np.ones(self.examples)))


def ratio_score(parts: np.ndarray) -> SampledScore:
    """A score that is a ratio of two sums over examples; parts [n, 2]."""
    return SampledScore(len(parts), lambda weights: _ratio(*np.moveaxis(weights @ parts, -1, 0)))


def total(column: np.ndarray, weights: Weights = None) -> np.ndarray:
    """The sum over rows of a column [n, ...]: [...], or a sum for each sample [..., n]."""
    return column.sum(0) if weights is None else np.tensordot(weights, column, 1)


def _ratio(numerator: np.ndarray, denominator: np.ndarray, empty: float = 0.0) -> np.ndarray:
    """`empty` where nothing is counted; counts are whole numbers."""
    return np.where(denominator > 0, numerator / np.maximum(denominator, 1), empty)


def accuracy(predicted: np.ndarray, labels: np.ndarray, weights: Weights = None) -> np.ndarray:
    """Share of right predictions; both int [n]."""
    right = predicted == labels
    return _ratio(total(right, weights), total(np.ones_like(right), weights))


def macro_f1(predicted: np.ndarray, labels: np.ndarray, weights: Weights = None) -> np.ndarray:
    """Unweighted mean of each class's F1; equals scikit-learn's f1_score(average="macro").

    Classes that occur in neither labels nor predictions of a sample are left out.
    """
    classes = np.union1d(predicted, labels)
    is_predicted, is_gold = (column[:, None] == classes for column in (predicted, labels))
    return mean_f1(is_predicted & is_gold, is_predicted, is_gold, weights)


# Of int [n] each: the predicted class and the label.
SCORES: dict[str, Score] = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
}


def micro_f1(
    hit: np.ndarray, predicted: np.ndarray, gold: np.ndarray, weights: Weights = None
) -> np.ndarray:
    """F1 over all labels together; 1 where there is nothing to find and nothing found."""
    hits, found, wanted = (total(column.sum(1), weights) for column in (hit, predicted, gold))
    return _ratio(2 * hits, found + wanted, 1.0)


def precision(
    hit: np.ndarray, predicted: np.ndarray, gold: np.ndarray, weights: Weights = None
) -> np.ndarray:
    """Share of the predictions that are right."""
    return _ratio(total(hit.sum(1), weights), total(predicted.sum(1), weights))


def recall(
    hit: np.ndarray, predicted: np.ndarray, gold: np.ndarray, weights: Weights = None
) -> np.ndarray:
    """Share of the gold labels that are found."""
    return _ratio(total(hit.sum(1), weights), total(gold.sum(1), weights))


def mean_f1(
    hit: np.ndarray, predicted: np.ndarray, gold: np.ndarray, weights: Weights = None
) -> np.ndarray:
    """Unweighted mean of each label's F1, without those neither predicted nor gold."""
    counted = total(predicted, weights) + total(gold, weights)
    each = _ratio(2 * total(hit, weights), counted)
    return _ratio(each.sum(-1), (counted > 0).sum(-1), 1.0)


# Of int [n, 1] each: numbers of entities that match exactly (place and type), are predicted, and
# are gold.
ENTITY_SCORES: dict[str, Score] = {
    "entity_f1": micro_f1,
    "entity_precision": precision,
    "entity_recall": recall,
}


# Of bool [n, labels] each: whether a label is right, is predicted, and is gold.
LABEL_SET_SCORES: dict[str, Score] = {
    "micro_f1": micro_f1,
    "macro_f1": mean_f1,
}


def best_threshold(probabilities: np.ndarray, gold: np.ndarray) -> float:
    """The threshold on probabilities at which micro-F1 is highest; both [n, labels], gold 0 or 1.

    It lies halfway between two probabilities that occur. 0.5 where no label is gold.
    """
    values, hits = probabilities.ravel().astype(np.float64), gold.ravel() > 0
    if not hits.any():
        return 0.5
    order = np.argsort(-values, kind="stable")
    values, hits = values[order], hits[order]
    count = np.arange(1, len(values) + 1)
    quality = 2 * np.cumsum(hits) / (count + hits.sum())
    below = np.append(values[1:], 0.0)
    quality[values == below] = -1.0  # no threshold separates equal values
    best = int(quality.argmax())
    return float(np.clip((values[best] + below[best]) / 2, 1e-6, 1 - 1e-6))


def pearson(predicted: np.ndarray, gold: np.ndarray, weights: Weights = None) -> np.ndarray:
    """Correlation of values, -1 to 1; 0 where one of them does not vary."""
    # Shifting changes no correlation, and loses fewer digits.
    x, y = (values.astype(np.float64) - values.mean() for values in (predicted, gold))
    moments = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], 1)
    return _correlation(*np.moveaxis(total(moments, weights), -1, 0))


def spearman(predicted: np.ndarray, gold: np.ndarray, weights: Weights = None) -> np.ndarray:
    """Correlation of the ranks in a sample, equal values sharing their mean rank."""
    counts = np.ones(len(gold)) if weights is None else weights
    n = counts.sum(-1)
    middle = (n[..., None] + 1) / 2  # the mean rank
    x, y = (ranks(values, counts) - middle for values in (predicted, gold))
    products = ((counts * product).sum(-1) for product in (x, y, x * x, y * y, x * y))
    return _correlation(n, *products)


def ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Rank [..., n], from 1, of each value [n] in each sample; equal ones share their mean rank."""
    order = np.argsort(values, kind="stable")
    ascending = values[order]
    first, last = (np.searchsorted(ascending, values, side) for side in ("left", "right"))
    nothing = np.zeros((*weights.shape[:-1], 1))
    below = np.concatenate([nothing, np.cumsum(weights[..., order], -1)], -1)
    return (below[..., first] + below[..., last] + 1) / 2


def _correlation(n, x, y, xx, yy, xy) -> np.ndarray:
    """Pearson's, of sums over samples of n pairs: of x, y, x^2, y^2 and xy."""
    varies = np.maximum(xx - x * x / n, 0) * np.maximum(yy - y * y / n, 0)
    return np.where(varies > 1e-24, (xy - x * y / n) / np.sqrt(np.maximum(varies, 1e-24)), 0.0)


# Of predicted and gold values, float [n].
CORRELATIONS: dict[str, Score] = {
    "pearson": pearson,
    "spearman": spearman,
}

ALL_SCORES = tuple(dict.fromkeys((*SCORES, *ENTITY_SCORES, *LABEL_SET_SCORES, *CORRELATIONS)))
