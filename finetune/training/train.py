"""Fine-tune a released encoder on a task, with or without a fine-tuned teacher's logits."""

from pathlib import Path

import paddle
import paddle.nn.functional as F

from data_pipeline.base.errors import UserError
from data_pipeline.text import tokenizer
from finetune.recipes import TrainRecipe
from finetune.settings import DistillSettings, FitSettings
from finetune.training import classifier
from finetune.training.batches import Encoded
from finetune.training.evaluate import evaluate
from finetune.training.files import check_labels, check_length
from finetune.training.fit import fit
from finetune.training.losses import class_weights, counted, soft_cross_entropy
from finetune.training.task_data import TaskData, encode_task


def train_classifier(recipe: TrainRecipe, directory: Path) -> None:
    """Fine-tune `recipe.encoder` and write the classifier into `directory`."""
    check_length(recipe.encoder, recipe.max_length)
    data = encode_task(recipe.task, Path(recipe.encoder), recipe.max_length)
    paddle.seed(recipe.train.seed)
    model = classifier.from_encoder(
        recipe.encoder, len(data.task.labels), data.task.kind, recipe.weights
    )
    teacher = teacher_of(recipe.distill, data) if recipe.distill else None
    fitted = fit(
        model,
        data.train,
        recipe.train,
        backward_of(model, recipe.train, data.train, teacher, recipe.distill),
        lambda: evaluate(model, data.dev),
        label=f"train {Path(recipe.output_dir).name}",
    )
    data.save(model, directory, data.result(model, fitted))


def teacher_of(distill: DistillSettings, data: TaskData):
    """The fine-tuned teacher, in eval; UserError when it reads other ids or knows other labels."""
    loaded = classifier.load(distill.teacher)
    if different := tokenizer.differences(loaded.tokenizer, data.tokenizer):
        raise UserError(
            f"{distill.teacher}: its tokenizer is not the student's ({'; '.join(different)}); both "
            "must read the same ids"
        )
    check_labels(loaded.labels, data.task.labels, Path(distill.teacher))
    loaded.model.eval()
    return loaded.model


def backward_of(
    model,
    settings: FitSettings,
    data: Encoded,
    teacher=None,
    distill: DistillSettings | None = None,
):
    """`backward(batch)` of fine-tuning: cross-entropy, mixed with a teacher's if there is one."""
    weight = (
        paddle.to_tensor(class_weights(data.counted_labels(), model.classes))
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
            rows = (counted(values, batch["labels"]) for values in (logits, target))
            soft = soft_cross_entropy(*rows, distill.temperature)
            loss = distill.alpha * soft + (1 - distill.alpha) * loss
        loss.backward()
        return float(loss)

    return backward
