"""Unstructured pruning: single weights to zero while the rest is trained.

The criterion scores every weight (`criteria.py`). The share of zeros follows the cubic schedule of
Zhu and Gupta (arXiv 1710.01878), so most goes early and the end is gentle.
"""

from pathlib import Path

import numpy as np
import paddle

from finetune.prune.criteria import CRITERIA, SCOPES, MatrixHistory
from finetune.recipes import SparseRecipe
from finetune.settings import SparseSettings
from finetune.training.evaluate import evaluate
from finetune.training.fit import fit
from finetune.training.task_data import load_with_task
from finetune.training.train import backward_of


def sparsify_classifier(recipe: SparseRecipe, directory: Path) -> None:
    """Write the sparse form of `recipe.classifier` into `directory`; zeros are in the weights."""
    model, data = load_with_task(recipe.classifier, recipe.task)
    settings = recipe.sparse
    pruner = Pruner(model, settings)
    fitted = fit(
        model,
        data.train,
        settings.fit,
        backward_of(model, settings.fit, data.train),
        lambda: evaluate(model, data.dev),
        label=f"prune by {settings.method}",
        on_gradients=pruner.on_gradients,
        after_step=pruner.after_step,
        keep_last=True,
    )
    data.save(model, directory, data.result(model, fitted, sparsity=sparsity(model)))


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


def sparsity(model) -> float:
    """Share of zeros in the prunable matrices."""
    matrices = [parameter.numpy() for parameter in prunable(model).values()]
    return sum(int((m == 0).sum()) for m in matrices) / sum(m.size for m in matrices)


class Pruner:
    """Holds the dense weights, scores and masks of one training; the model has weights x mask.

    What is masked goes on being trained and scored (straight-through), so it can come back while
    the schedule still chooses.
    """

    def __init__(self, model, settings: SparseSettings):
        self.settings = settings
        self.weights = prunable(model)
        self.histories = {
            name: MatrixHistory(weight.numpy(), np.zeros(weight.shape, np.float32))
            for name, weight in self.weights.items()
        }
        self.masked = {name: history.weight for name, history in self.histories.items()}
        self.masks: dict[str, np.ndarray] = {}

    def on_gradients(self) -> None:
        """Add to the movement scores; gradients are those of the whole batch, on every rank."""
        if self.settings.method != "movement":
            return
        for name, weight in self.weights.items():
            history = self.histories[name]
            history.movement -= history.weight * weight.grad.numpy()

    def after_step(self, step: int, total: int) -> None:
        """Take over the update, choose masks every `every` steps (and at the end), apply them."""
        for name, weight in self.weights.items():
            self.histories[name].weight = (
                self.histories[name].weight + weight.numpy() - self.masked[name]
            )
        if step % self.settings.every == 0 or step == total or not self.masks:
            share = scheduled(step, total, self.settings)
            self.masks = SCOPES[self.settings.scope](self.scores(), share)
        for name, weight in self.weights.items():
            self.masked[name] = self.histories[name].weight * self.masks[name]
            weight.set_value(self.masked[name])

    def scores(self) -> dict[str, np.ndarray]:
        """Score of every weight now, by the recipe's criterion."""
        criterion = CRITERIA[self.settings.method]
        return {name: criterion(history) for name, history in self.histories.items()}
