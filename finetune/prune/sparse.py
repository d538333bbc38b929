"""Unstructured pruning: single weights to zero while the rest is trained.

The criterion scores every weight (`criteria.py`). The share of zeros follows the cubic schedule of
Zhu and Gupta (arXiv 1710.01878), so most goes early and the end is gentle.

Movement pruning is that of Sanh et al. (arXiv 2005.07683): scores S start at 0 and are trained by
Adam with a rate of their own; the forward pass uses W x M, M keeping the highest scores. With G the
gradient of W x M, the gradient of S is G x W (straight-through), and that of W is G x M: a masked
weight is not trained, and comes back with the value it had. Optionally the model also learns
from a teacher.
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
from finetune.training.train import losses_of, teacher_of

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # of Adam, as in the published code


def sparsify_classifier(recipe: SparseRecipe, directory: Path) -> None:
    """Write the sparse form of `recipe.classifier` into `directory`; zeros are in the weights."""
    model, data = load_with_task(recipe.classifier, recipe.task)
    settings = recipe.sparse
    teacher = teacher_of(recipe.distill, data) if recipe.distill else None
    pruner = Pruner(model, settings)
    fitted = fit(
        model,
        data.train,
        settings.fit,
        losses_of(model, settings.fit, data.train, teacher, recipe.distill),
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

    By magnitude, what is masked is trained further (straight-through), so that it can grow back
    while the schedule still chooses; by movement it is not, as published.
    """

    def __init__(self, model, settings: SparseSettings):
        self.settings = settings
        self.trains_scores = settings.method == "movement"
        self.weights = prunable(model)
        self.histories = {
            name: MatrixHistory(name, weight.numpy(), np.zeros(weight.shape, np.float32))
            for name, weight in self.weights.items()
        }
        self.masked = {name: history.weight for name, history in self.histories.items()}
        self.masks = {name: np.ones(weight.shape, bool) for name, weight in self.weights.items()}
        self.moments = {name: (0.0, 0.0) for name in self.weights}

    def on_gradients(self, step: int, total: int) -> None:
        """Train the movement scores; gradients are those of the whole batch, on every rank."""
        if not self.trains_scores:
            return
        rate = self.settings.score_learning_rate * (1 - (step - 1) / total)
        for name, weight in self.weights.items():
            history, gradient = self.histories[name], weight.grad.numpy()
            change, self.moments[name] = adam(gradient * history.weight, self.moments[name], step)
            history.movement -= rate * change
            weight.grad.set_value(gradient * self.masks[name])

    def after_step(self, step: int, total: int) -> None:
        """Take over the update, choose masks every `every` steps (and at the end), apply them."""
        for name, weight in self.weights.items():
            update = weight.numpy() - self.masked[name]
            if self.trains_scores:
                update *= self.masks[name]
            self.histories[name].weight = self.histories[name].weight + update
        if step % self.settings.every == 0 or step in (1, total):
            share = scheduled(step, total, self.settings)
            self.masks = SCOPES[self.settings.scope](self.scores(), share)
        for name, weight in self.weights.items():
            self.masked[name] = self.histories[name].weight * self.masks[name]
            weight.set_value(self.masked[name])

    def scores(self) -> dict[str, np.ndarray]:
        """Score of every weight now, by the recipe's criterion."""
        criterion = CRITERIA[self.settings.method]
        return {name: criterion(history) for name, history in self.histories.items()}


def adam(gradient: np.ndarray, moments: tuple, step: int) -> tuple[np.ndarray, tuple]:
    """(change for a rate of 1, new moments) of Adam at `step`, counted from 1."""
    first = BETA1 * moments[0] + (1 - BETA1) * gradient
    second = BETA2 * moments[1] + (1 - BETA2) * gradient**2
    change = (first / (1 - BETA1**step)) / (np.sqrt(second / (1 - BETA2**step)) + EPSILON)
    return change.astype(np.float32), (first, second)
