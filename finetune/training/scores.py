"""What logits are worth against the labels."""

import numpy as np


def scores(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Accuracy and macro-F1 (mean over the classes that occur in labels or predictions)."""
    predicted = logits.argmax(-1)
    return {
        "accuracy": float((predicted == labels).mean()),
        "macro_f1": macro_f1(predicted, labels),
    }


def macro_f1(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Unweighted mean of each class's F1; equals scikit-learn's f1_score(average="macro")."""
    values = []
    for label in np.union1d(predicted, labels):
        hit = float(((predicted == label) & (labels == label)).sum())
        total = float((predicted == label).sum() + (labels == label).sum())
        values.append(2 * hit / total)
    return float(np.mean(values))
