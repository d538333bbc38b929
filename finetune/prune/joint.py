"""Train several widths of one network together, each taught by the full fine-tuned model."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import paddle

from finetune.prune import importance, width
from finetune.recipes import PruneRecipe
from finetune.settings import WidthSettings
from finetune.training import classifier, ranks
from finetune.training.batches import Encoded
from finetune.training.evaluate import evaluate
from finetune.training.fit import Fitted, Losses, fit
from finetune.training.losses import hidden_mse
from finetune.training.task_data import load_with_task


def prune_widths(recipe: PruneRecipe, directory: Path) -> None:
    """Write one classifier directory per width into `directory`."""
    settings = recipe.prune
    model, data = load_with_task(recipe.classifier, recipe.task)
    teacher = classifier.load(recipe.classifier).model.eval()
    sample = data.train.subset(importance_rows(len(data.train), settings))
    importances = ranks.from_first(
        ranks.join(), lambda: importance.measure(model, sample, criterion=settings.criterion)
    )
    width.reorder(model, importances)
    width.elastic(model)
    best = BestWidths(model, data.dev, settings)
    fitted = fit(
        model,
        data.train,
        settings.fit,
        losses_of(model, teacher, settings, data.train),
        best.evaluate,
        label="prune",
    )
    for value in settings.widths:
        small, own = best.of_width(value, fitted)
        result = data.result(small, own, width=value)
        data.save(small, directory / f"width-{value:g}", result)


def importance_rows(count: int, settings: WidthSettings) -> np.ndarray:
    """Row numbers of the training examples on which importance is measured, at random."""
    random = np.random.default_rng(settings.fit.seed)
    return random.permutation(count)[: settings.importance_examples]


class BestWidths:
    """Evaluates every width, and keeps for each the weights that scored best on dev."""

    def __init__(self, model, dev: Encoded, settings: WidthSettings):
        self.model, self.dev, self.widths = model, dev, settings.widths
        self.score = dev.score_name(settings.fit.choose_by)
        self.evaluations = 0
        self.best: dict[float, tuple[dict[str, float], int, classifier.Classifier]] = {}

    def evaluate(self) -> dict[str, float]:
        """Mean scores of all widths at the weights of now."""
        each = []
        for value in self.widths:
            width.set_width(self.model, value)
            scores = evaluate(self.model, self.dev)
            each.append(scores)
            if value not in self.best or scores[self.score] > self.best[value][0][self.score]:
                small = width.extract(self.model, value)
                self.best[value] = (scores, self.evaluations, small)
        self.evaluations += 1
        return {name: float(np.mean([scores[name] for scores in each])) for name in each[0]}

    def of_width(self, value: float, fitted: Fitted) -> tuple[classifier.Classifier, Fitted]:
        """The best classifier of a width, and its training; on ranks that did not evaluate, the
        classifier of now."""
        if value not in self.best:
            return width.extract(self.model, value), fitted
        scores, evaluation, small = self.best[value]
        step = fitted.history[evaluation]["step"]
        return small, Fitted(scores, step, fitted.history)


def losses_of(model, teacher, settings: WidthSettings, data: Encoded) -> Losses:
    """`losses(batch)` of joint training: every width learns from the teacher. A loss's gradients
    are taken before the next width runs; those of all widths add up in the shared weights."""
    weight = model.loss_weight(data, balance=False)

    def losses(batch) -> Iterator[paddle.Tensor]:
        inputs = batch["input_ids"], batch["token_type_ids"]
        mask = batch["input_ids"] != model.encoder.config.pad_token_id
        with paddle.no_grad():
            target_states = teacher.states(*inputs)
            target = teacher.head(target_states[-1])
        for value in settings.widths:
            width.set_width(model, value)
            states = model.states(*inputs)
            logits = model.head(states[-1])
            loss = model.soft_loss(logits, target, batch["labels"], weight=weight)
            loss = loss + settings.hidden_weight * hidden_mse(states, target_states, mask)
            yield loss / len(settings.widths)

    return losses
