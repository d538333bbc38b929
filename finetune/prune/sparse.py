"""Unstructured pruning: single weights to zero, by magnitude or by movement.

Magnitude keeps the largest |w|. Movement keeps the weights that training moves away from zero: the
score is -sum w * dL/dw over the steps (Sanh et al., arXiv 2005.07683). The share of zeros follows
the cubic schedule of Zhu and Gupta (arXiv 1710.01878), so most goes early and the end is gentle.
"""

from pathlib import Path

import numpy as np
import paddle

from finetune.recipes import SparseRecipe
from finetune.settings import SparseSettings
from finetune.training.evaluate import evaluate
from finetune.training.fit import fit
from finetune.training.train import backward_of
from finetune.training.workbench import open_classifier


def make(recipe: SparseRecipe, directory: Path) -> None:
    """Fill `directory` with the sparse form of `recipe.classifier`; zeros are in the weights."""
    model, splits = open_classifier(recipe.classifier, recipe.task)
    settings = recipe.sparse
    pruner = Pruner(model, settings)
    fitted = fit(
        model,
        splits.train,
        settings.fit,
        pruner.watch(backward_of(model, settings.fit, splits.train)),
        lambda: evaluate(model, splits.dev),
        label=f"prune by {settings.method}",
        after_step=pruner.after_step,
        keep_last=True,
    )
    splits.save(model, directory, splits.result(model, fitted, sparsity=sparsity(model)))


def scheduled(step: int, total: int, settings: SparseSettings) -> float:
    """Share of zeros after `step` of `total`: 0 at first, cubic, then the target to the end."""
    begin = settings.begin_share * total
    end = settings.end_share * total
    done = np.clip((step - begin) / max(end - begin, 1), 0.0, 1.0)
    return settings.sparsity * (1 - (1 - done) ** 3)


def prunable(model) -> dict[str, paddle.Tensor]:
    """The matrices of the encoder's layers, by name; embeddings, norms and the head stay dense."""
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if name.startswith("encoder.encoder.layers") and len(parameter.shape) == 2
    }


def masks(scores: dict[str, np.ndarray], share: float, scope: str) -> dict[str, np.ndarray]:
    """True where a weight stays: all but the lowest `share` of scores, of each matrix or of all."""
    if scope == "global":
        joined = np.concatenate([score.ravel() for score in scores.values()])
        kept = _keep(joined, share)
        sizes = np.cumsum([score.size for score in scores.values()])[:-1]
        parts = np.split(kept, sizes)
        return {n: p.reshape(scores[n].shape) for n, p in zip(scores, parts, strict=True)}
    return {n: _keep(score.ravel(), share).reshape(score.shape) for n, score in scores.items()}


def _keep(scores: np.ndarray, share: float) -> np.ndarray:
    """All but the `round(share x n)` lowest; exact also among equal scores."""
    kept = np.ones(scores.size, bool)
    drop = round(share * scores.size)
    if drop:
        kept[np.argpartition(scores, drop - 1)[:drop]] = False
    return kept


def sparsity(model) -> float:
    """Share of zeros in the prunable matrices."""
    matrices = [parameter.numpy() for parameter in prunable(model).values()]
    return sum(int((m == 0).sum()) for m in matrices) / sum(m.size for m in matrices)


class Pruner:
    """Keeps the dense weights, scores and masks of one run; the model holds weights x mask.

    What is masked goes on being trained and scored (straight-through), so it can come back while
    the schedule still chooses.
    """

    def __init__(self, model, settings: SparseSettings):
        self.settings = settings
        self.weights = prunable(model)
        self.dense = {name: weight.numpy() for name, weight in self.weights.items()}
        self.shown = dict(self.dense)  # what the model holds
        self.moved = {name: np.zeros(w.shape, np.float32) for name, w in self.weights.items()}
        self.masks: dict[str, np.ndarray] = {}

    def watch(self, backward):
        """The `backward(batch)` that also adds to the movement scores."""
        if self.settings.method == "magnitude":
            return backward

        def watched(batch) -> float:
            loss = backward(batch)
            for name, weight in self.weights.items():
                self.moved[name] -= self.dense[name] * weight.grad.numpy()
            return loss

        return watched

    def after_step(self, step: int, total: int) -> None:
        """Take over the update, choose masks every `every` steps (and at the end), apply them."""
        for name, weight in self.weights.items():
            self.dense[name] = self.dense[name] + (weight.numpy() - self.shown[name])
        if step % self.settings.every == 0 or step == total or not self.masks:
            share = scheduled(step, total, self.settings)
            self.masks = masks(self._scores(), share, self.settings.scope)
        for name, weight in self.weights.items():
            self.shown[name] = self.dense[name] * self.masks[name]
            weight.set_value(self.shown[name])

    def _scores(self) -> dict[str, np.ndarray]:
        if self.settings.method == "movement":
            return self.moved
        return {name: np.abs(weight) for name, weight in self.dense.items()}
