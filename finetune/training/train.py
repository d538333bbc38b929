"""Fine-tune a released encoder on a task, with or without a fine-tuned teacher's logits."""

from pathlib import Path

import paddle
import paddle.nn.functional as F

from data_pipeline.base.errors import UserError
from finetune.recipes import TrainRecipe
from finetune.settings import DistilSettings, FitSettings
from finetune.training import classifier
from finetune.training.batches import Encoded
from finetune.training.evaluate import evaluate
from finetune.training.fit import fit
from finetune.training.losses import class_weights, soft_cross_entropy
from finetune.training.workbench import Splits, open_splits


def make(recipe: TrainRecipe, directory: Path) -> None:
    """Fine-tune `recipe.encoder` and fill `directory` with the classifier."""
    splits = open_splits(recipe.task, Path(recipe.encoder) / "vocab.txt", recipe.max_length)
    paddle.seed(recipe.train.seed)
    model = classifier.from_encoder(recipe.encoder, len(splits.task.labels))
    teacher = teacher_of(recipe.distil, splits) if recipe.distil else None
    fitted = fit(
        model,
        splits.train,
        recipe.train,
        backward_of(model, recipe.train, splits.train, teacher, recipe.distil),
        lambda: evaluate(model, splits.dev),
        label=f"train {Path(recipe.output_dir).name}",
    )
    splits.save(model, directory, splits.result(model, fitted))


def teacher_of(distil: DistilSettings, splits: Splits):
    """The fine-tuned teacher, in eval; UserError when it reads other ids or knows other labels."""
    stored = classifier.load(distil.teacher)
    if stored.vocab.read_bytes() != splits.vocab.read_bytes():
        raise UserError(
            f"{distil.teacher}: its vocab.txt is not the student's; both must read the same ids"
        )
    if stored.labels != splits.task.labels:
        raise UserError(
            f"{distil.teacher}: its labels are {stored.labels[:5]}, the task's "
            f"{splits.task.labels[:5]}"
        )
    stored.model.eval()
    return stored.model


def backward_of(
    model, settings: FitSettings, data: Encoded, teacher=None, distil: DistilSettings | None = None
):
    """`backward(batch)` of fine-tuning: cross-entropy, mixed with a teacher's if there is one."""
    weight = (
        paddle.to_tensor(class_weights(data.labels, model.classes))
        if settings.balance_classes
        else None
    )

    def backward(batch) -> float:
        inputs = batch["input_ids"], batch["token_type_ids"]
        logits = model(*inputs)
        loss = F.cross_entropy(logits, batch["labels"], weight=weight)
        if teacher is not None:
            with paddle.no_grad():
                target = teacher(*inputs)
            soft = soft_cross_entropy(logits, target, distil.temperature)
            loss = distil.alpha * soft + (1 - distil.alpha) * loss
        loss.backward()
        return float(loss)

    return backward
