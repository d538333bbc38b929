"""What is pruned: a score for each weight, and a mask from the scores.

A new criterion is one function and one entry in CRITERIA, a new way to share the zeros out is one
function and one entry in SCOPES; the recipe's allowed values derive from these tables. Pure
functions of numpy arrays.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

GROUP = 4  # of 2:4 sparsity


@dataclass
class MatrixHistory:
    """One weight matrix during training."""

    name: str
    weight: np.ndarray
    """The dense weights, float32 [inputs, outputs]."""
    movement: np.ndarray
    """The trained scores of movement pruning, of the same shape."""


def magnitude(history: MatrixHistory) -> np.ndarray:
    """|w|: small weights are pruned."""
    return np.abs(history.weight)


def movement(history: MatrixHistory) -> np.ndarray:
    """The trained score: weights that training moves towards zero are pruned (arXiv 2005.07683)."""
    return history.movement


def at_random(history: MatrixHistory) -> np.ndarray:
    """A number drawn once for each weight: what any other criterion must do better than."""
    seed = zlib.crc32(history.name.encode())
    return np.random.default_rng(seed).random(history.weight.shape)


def local_masks(scores: dict[str, np.ndarray], share: float) -> dict[str, np.ndarray]:
    """True where a weight stays: all but the lowest `share` of every matrix."""
    return {
        name: _highest(score.ravel(), share).reshape(score.shape) for name, score in scores.items()
    }


def global_masks(scores: dict[str, np.ndarray], share: float) -> dict[str, np.ndarray]:
    """True where a weight stays: all but the lowest `share` of all matrices together."""
    return _jointly(scores, share)


def layer_masks(scores: dict[str, np.ndarray], share: float) -> dict[str, np.ndarray]:
    """True where a weight stays: all but the lowest `share` of the matrices of every layer."""
    layers: dict[str, dict[str, np.ndarray]] = {}
    for name, score in scores.items():
        layer = name.partition("layers.")[2].partition(".")[0]
        layers.setdefault(layer, {})[name] = score
    masks: dict[str, np.ndarray] = {}
    for matrices in layers.values():
        masks |= _jointly(matrices, share)
    return {name: masks[name] for name in scores}


def column_masks(scores: dict[str, np.ndarray], share: float) -> dict[str, np.ndarray]:
    """True where a weight stays: all but the `share` of columns with the lowest sums."""
    return {
        name: np.broadcast_to(_highest(score.sum(0), share), score.shape).copy()
        for name, score in scores.items()
    }


def two_of_four_masks(scores: dict[str, np.ndarray], share: float) -> dict[str, np.ndarray]:
    """2:4 sparsity: of every 4 weights in a row of inputs, the lowest 2 go; `share` of the groups.

    NVIDIA's sparse tensor cores need all groups so (`sparsity` 0.5); on the way there, the groups
    whose lost scores are smallest go first (arXiv 2104.08378). The rest of inputs / 4 stays dense.
    """
    return {name: _two_of_four(score, min(1.0, 2 * share)) for name, score in scores.items()}


def _two_of_four(score: np.ndarray, share: float) -> np.ndarray:
    inputs, outputs = score.shape
    whole = inputs - inputs % GROUP
    groups = score[:whole].reshape(whole // GROUP, GROUP, outputs)
    rank = groups.argsort(1, kind="stable").argsort(1, kind="stable")
    lost = np.where(rank < GROUP // 2, groups, 0).sum(1)
    pruned = ~_highest(lost.ravel(), share).reshape(lost.shape)
    stays = (rank >= GROUP // 2) | ~pruned[:, None]
    mask = np.ones(score.shape, bool)
    mask[:whole] = stays.reshape(whole, outputs)
    return mask


def _jointly(scores: dict[str, np.ndarray], share: float) -> dict[str, np.ndarray]:
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


@dataclass
class LayerWeights:
    """The matrices of one encoder layer that decide on its heads and neurons, with gradients."""

    number: int
    heads: int
    out_proj: np.ndarray
    """[heads x d, hidden], of attention's output."""
    linear1: np.ndarray
    """[hidden, neurons]"""
    bias1: np.ndarray
    """[neurons]"""
    linear2: np.ndarray
    """[neurons, hidden]"""
    gradients: dict[str, np.ndarray]
    """Of one batch, by the names above."""


def by_gradient(layer: LayerWeights) -> tuple[np.ndarray, np.ndarray]:
    """DynaBERT's importance of heads and of neurons (arXiv 2004.04037): float64 [heads], [neurons].

    Heads: |dL/dm|, m a factor on a head's output, which needs no mask in the network: the output
    enters the loss only through its rows W of out_proj, so dL/dm = <W, dL/dW>. Neurons, as in the
    published code: |<W1, dL/dW1> + b1 dL/db1| of a neuron's inputs plus |<W2, dL/dW2>| of its
    outputs.
    """
    products = {
        name: getattr(layer, name).astype(np.float64) * gradient
        for name, gradient in layer.gradients.items()
    }
    heads = np.abs(products["out_proj"].sum(1).reshape(layer.heads, -1).sum(1))
    inputs = np.abs(products["linear1"].sum(0) + products["bias1"])
    return heads, inputs + np.abs(products["linear2"].sum(1))


def by_norm(layer: LayerWeights) -> tuple[np.ndarray, np.ndarray]:
    """L2 norm of the weights that read a head's or a neuron's output."""
    squares = (layer.out_proj.astype(np.float64) ** 2).sum(1).reshape(layer.heads, -1).sum(1)
    return np.sqrt(squares), np.sqrt((layer.linear2.astype(np.float64) ** 2).sum(1))


def by_chance(layer: LayerWeights) -> tuple[np.ndarray, np.ndarray]:
    """Numbers drawn once for each layer: what any other criterion must do better than."""
    random = np.random.default_rng(layer.number)
    return random.random(layer.heads), random.random(len(layer.bias1))


WIDTH_CRITERIA: dict[str, Callable[[LayerWeights], tuple[np.ndarray, np.ndarray]]] = {
    "gradient": by_gradient,
    "magnitude": by_norm,
    "random": by_chance,
}
CRITERIA: dict[str, Callable[[MatrixHistory], np.ndarray]] = {
    "magnitude": magnitude,
    "movement": movement,
    "random": at_random,
}
SCOPES: dict[str, Callable[[dict[str, np.ndarray], float], dict[str, np.ndarray]]] = {
    "local": local_masks,
    "global": global_masks,
    "layer": layer_masks,
    "columns": column_masks,
    "2:4": two_of_four_masks,
}
