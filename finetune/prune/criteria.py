"""Which weights are pruned: a score for each weight, and a mask from the scores.

A new criterion is one function and one entry in CRITERIA, a new way to share the zeros out is one
function and one entry in SCOPES; the recipe's allowed values derive from these tables. Pure
functions of numpy arrays.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass
class MatrixHistory:
    """One weight matrix during training."""

    weight: np.ndarray
    """The dense weights, float32 [inputs, outputs]."""
    movement: np.ndarray
    """-sum of weight x gradient over the steps so far, of the same shape."""


def magnitude(history: MatrixHistory) -> np.ndarray:
    """|w|: small weights are pruned."""
    return np.abs(history.weight)


def movement(history: MatrixHistory) -> np.ndarray:
    """-sum w dL/dw: weights that training moves towards zero are pruned (arXiv 2005.07683)."""
    return history.movement


def local_masks(scores: dict[str, np.ndarray], share: float) -> dict[str, np.ndarray]:
    """True where a weight stays: all but the lowest `share` of every matrix."""
    return {
        name: _highest(score.ravel(), share).reshape(score.shape) for name, score in scores.items()
    }


def global_masks(scores: dict[str, np.ndarray], share: float) -> dict[str, np.ndarray]:
    """True where a weight stays: all but the lowest `share` of all matrices together."""
    stays = _highest(np.concatenate([score.ravel() for score in scores.values()]), share)
    ends = np.cumsum([score.size for score in scores.values()])[:-1]
    parts = zip(scores.items(), np.split(stays, ends), strict=True)
    return {name: part.reshape(score.shape) for (name, score), part in parts}


def _highest(scores: np.ndarray, share: float) -> np.ndarray:
    """All but the `round(share x n)` lowest; exact also among equal scores."""
    stays = np.ones(scores.size, bool)
    count = round(share * scores.size)
    if count:
        stays[np.argpartition(scores, count - 1)[:count]] = False
    return stays


CRITERIA: dict[str, Callable[[MatrixHistory], np.ndarray]] = {
    "magnitude": magnitude,
    "movement": movement,
}
SCOPES: dict[str, Callable[[dict[str, np.ndarray], float], dict[str, np.ndarray]]] = {
    "local": local_masks,
    "global": global_masks,
}
