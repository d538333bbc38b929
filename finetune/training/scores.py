"""Scores of predictions against labels, by kind of task.

A new score is one function and one entry in its kind's table; the recipe's allowed values derive
from these tables. Pure functions of numpy arrays; every score is better when it is larger.
"""

from collections.abc import Callable

import numpy as np


def scores(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Every score of SCORES for logits float [n, classes] and labels int [n]."""
    predicted = logits.argmax(-1)
    return {name: function(predicted, labels) for name, function in SCORES.items()}


def accuracy(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Share of right predictions."""
    return float((predicted == labels).mean())


def macro_f1(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Unweighted mean of each class's F1; equals scikit-learn's f1_score(average="macro").

    Classes that occur in neither labels nor predictions are left out.
    """
    classes = np.union1d(predicted, labels)[:, None]
    hit = (classes == predicted) & (classes == labels)
    counts = (classes == predicted).sum(1), (classes == labels).sum(1)
    return mean_f1(hit.sum(1), *counts)


SCORES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
}


def f1(hit: int, predicted: int, gold: int) -> float:
    """Harmonic mean of precision and recall; 1 where there is nothing to find and nothing found."""
    return float(2 * hit / (predicted + gold)) if predicted + gold else 1.0


def precision(hit: int, predicted: int, gold: int) -> float:
    """Share of the predictions that are right."""
    return hit / predicted if predicted else 0.0


def recall(hit: int, predicted: int, gold: int) -> float:
    """Share of the gold labels that are found."""
    return hit / gold if gold else 0.0


# Of the numbers of entities that match exactly (place and type), are predicted, and are gold.
ENTITY_SCORES: dict[str, Callable[[int, int, int], float]] = {
    "entity_f1": f1,
    "entity_precision": precision,
    "entity_recall": recall,
}


def micro_f1(hit: np.ndarray, predicted: np.ndarray, gold: np.ndarray) -> float:
    """F1 over all labels together."""
    return f1(hit.sum(), predicted.sum(), gold.sum())


def mean_f1(hit: np.ndarray, predicted: np.ndarray, gold: np.ndarray) -> float:
    """Unweighted mean of each label's F1, without those neither predicted nor gold."""
    total = predicted + gold
    occurs = total > 0
    return float((2 * hit[occurs] / total[occurs]).mean()) if occurs.any() else 1.0


# Of int [labels]: how often each label is right, is predicted, and is gold.
LABEL_SET_SCORES: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], float]] = {
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


def pearson(predicted: np.ndarray, gold: np.ndarray) -> float:
    """Correlation of values, -1 to 1; 0 where one of them does not vary."""
    return float(pearson_of_sums(moments(predicted, gold).sum(0)))


def spearman(predicted: np.ndarray, gold: np.ndarray) -> float:
    """Correlation of ranks, equal values sharing their mean rank."""
    from scipy.stats import rankdata

    return pearson(rankdata(predicted), rankdata(gold))


# Of predicted and gold values, float [n].
CORRELATIONS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "pearson": pearson,
    "spearman": spearman,
}

ALL_SCORES = tuple(dict.fromkeys((*SCORES, *ENTITY_SCORES, *LABEL_SET_SCORES, *CORRELATIONS)))


def ratio_of_sums(sums: np.ndarray) -> np.ndarray:
    """[...] of sums [..., 2] of numerators and denominators; 0 of an empty denominator."""
    return sums[..., 0] / np.maximum(sums[..., 1], 1e-12)


def moments(predicted: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """float64 [n, 6]: 1, x, y, x^2, y^2 and xy of each pair, shifted to their means (which changes
    no correlation, and loses fewer digits)."""
    x, y = (values.astype(np.float64) - values.mean() for values in (predicted, gold))
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], 1)


def pearson_of_sums(sums: np.ndarray) -> np.ndarray:
    """Pearson's correlation [...] of sums [..., 6] of `moments`."""
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    varies = np.maximum(xx - x * x / n, 0) * np.maximum(yy - y * y / n, 0)
    return np.where(varies > 1e-24, (xy - x * y / n) / np.sqrt(np.maximum(varies, 1e-24)), 0.0)
