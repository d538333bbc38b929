"""Train several widths of one network together, each taught by the full fine-tuned model."""

from pathlib import Path

import numpy as np
import paddle

from finetune.prune import importance, width
from finetune.recipes import PruneRecipe
from finetune.settings import WidthSettings
from finetune.training import classifier, ranks
from finetune.training.evaluate import evaluate
from finetune.training.fit import fit
from finetune.training.losses import counted, hidden_mse, soft_cross_entropy
from finetune.training.task_data import load_with_task


def prune_widths(recipe: PruneRecipe, directory: Path) -> None:
    """Write one classifier directory per width into `directory`."""
    settings = recipe.prune
    model, data = load_with_task(recipe.classifier, recipe.task)
    teacher = classifier.load(recipe.classifier).model.eval()
    sample = data.dev.first(settings.importance_examples)
    world = ranks.join()
    width.reorder(model, ranks.from_first(world, lambda: importance.measure(model, sample)))
    width.elastic(model)
    fitted = fit(
        model,
        data.train,
        settings.fit,
        backward_of(model, teacher, settings),
        lambda: _mean_scores(model, data.dev, settings.widths),
        label="prune",
    )
    for value in settings.widths:
        small = width.extract(model, value)
        result = data.result(small, fitted, width=value)
        data.save(small, directory / f"width-{value:g}", result)


def backward_of(model, teacher, settings: WidthSettings):
    """`backward(batch)` of joint training: every width learns from the teacher."""

    def backward(batch) -> float:
        inputs = batch["input_ids"], batch["token_type_ids"]
        mask = batch["input_ids"] != model.encoder.config.pad_token_id
        with paddle.no_grad():
            target_states = teacher.states(*inputs)
            target = teacher.head(target_states[-1])
        total = 0.0
        for value in settings.widths:  # gradients of all widths add up in the shared weights
            width.set_width(model, value)
            states = model.states(*inputs)
            rows = (counted(logits, batch["labels"]) for logits in (model.head(states[-1]), target))
            loss = soft_cross_entropy(*rows)
            loss = loss + settings.hidden_weight * hidden_mse(states, target_states, mask)
            loss = loss / len(settings.widths)
            loss.backward()
            total += float(loss)
        return total

    return backward


def _mean_scores(model, dev, widths: list[float]) -> dict[str, float]:
    each = []
    for value in widths:
        width.set_width(model, value)
        each.append(evaluate(model, dev))
    return {name: float(np.mean([scores[name] for scores in each])) for name in each[0]}
