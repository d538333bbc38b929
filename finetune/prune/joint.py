"""Train several widths of one network together, each taught by the full fine-tuned model."""

from pathlib import Path

import numpy as np
import paddle

from finetune import classifier
from finetune.batches import encode
from finetune.evaluate import evaluate
from finetune.fit import fit
from finetune.losses import hidden_mse, soft_cross_entropy
from finetune.prune import importance, width
from finetune.settings import PruneRecipe, WidthSettings
from finetune.tasks import open_task


def make(recipe: PruneRecipe, directory: Path) -> None:
    """Fill `directory` with one classifier directory per width."""
    from data_pipeline.encode import WordPieceEncoder

    settings = recipe.prune
    stored = classifier.load(recipe.classifier)
    teacher = classifier.load(recipe.classifier).model.eval()
    task = open_task(recipe.task)
    encoder = WordPieceEncoder(stored.vocab)
    max_length = stored.result.get("max_length", task.max_length)
    train, dev = (encode(encoder, task.split(name), max_length) for name in ("train", "dev"))
    test = encode(encoder, task.held_out(), max_length)
    model = stored.model
    sample = encode(encoder, task.split("dev")[: settings.importance_examples], max_length)
    width.reorder(model, importance.measure(model, sample))
    width.elastic(model)
    fitted = fit(
        model,
        train,
        settings.fit,
        backward_of(model, teacher, settings),
        lambda: _mean_scores(model, dev, settings.widths),
        label="prune",
    )
    for value in settings.widths:
        small = width.extract(model, value)
        result = {
            "task": task.name,
            **evaluate(small, test),
            "dev": fitted.best,
            "width": value,
            "max_length": max_length,
            "history": fitted.history,
        }
        classifier.save(small, directory / f"width-{value:g}", stored.labels, stored.vocab, result)


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
            loss = soft_cross_entropy(model.head(states[-1]), target)
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
