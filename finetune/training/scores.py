"""Scores of logits against labels.

A new score is one function and one entry in SCORES; the recipe's allowed values derive from it.
Pure functions of numpy arrays.
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
    values = []
    for label in np.union1d(predicted, labels):
        hit = float(((predicted == label) & (labels == label)).sum())
        total = float((predicted == label).sum() + (labels == label).sum())
        values.append(2 * hit / total)
    return float(np.mean(values))


SCORES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
}


def entity_f1(hit: int, predicted: int, gold: int) -> float:
    """Harmonic mean of precision and recall; 1 where there is nothing to find and nothing found."""
    return 2 * hit / (predicted + gold) if predicted + gold else 1.0


def entity_precision(hit: int, predicted: int, gold: int) -> float:
    """Share of the predicted entities that are right."""
    return hit / predicted if predicted else 0.0


def entity_recall(hit: int, predicted: int, gold: int) -> float:
    """Share of the gold entities that are found."""
    return hit / gold if gold else 0.0


# Of the numbers of entities that match exactly (place and type), are predicted, and are gold.
ENTITY_SCORES: dict[str, Callable[[int, int, int], float]] = {
    "entity_f1": entity_f1,
    "entity_precision": entity_precision,
    "entity_recall": entity_recall,
}
