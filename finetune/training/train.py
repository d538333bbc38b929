"""Fine-tune a released encoder on a task, with or without a fine-tuned teacher's logits."""

from collections.abc import Callable, Iterator
from pathlib import Path

import paddle

from data_pipeline.base.errors import UserError
from data_pipeline.text import tokenizer
from finetune.recipes import SearchRecipe, TrainRecipe
from finetune.settings import DistillSettings, FitSettings
from finetune.training import classifier
from finetune.training.batches import Encoded
from finetune.training.evaluate import evaluate
from finetune.training.files import check_fits
from finetune.training.fit import Fitted, Losses, fit
from finetune.training.task_data import TaskData, encode_task


def train_classifier(recipe: TrainRecipe, directory: Path) -> None:
    """Fine-tune `recipe.encoder` and write the classifier into `directory`."""
    data = encode_task(recipe.task, Path(recipe.encoder), recipe.max_length)
    model, fitted = fine_tune(
        recipe, data, recipe.train, recipe.distill, f"train {Path(recipe.output_dir).name}"
    )
    data.save(model, directory, data.result(model, fitted))


def fine_tune(
    source: TrainRecipe | SearchRecipe,
    data: TaskData,
    settings: FitSettings,
    distill: DistillSettings | None,
    label: str,
    on_evaluation: Callable[[dict], None] = lambda entry: None,
) -> tuple[classifier.Classifier, Fitted]:
    """A classifier on `source.encoder`, trained; `on_evaluation` is that of `fit`."""
    paddle.seed(settings.seed)
    model = classifier.from_encoder(
        source.encoder, len(data.task.labels), data.task.kind, source.weights
    )
    model.begin(data.train)
    teacher = teacher_of(distill, data) if distill else None
    fitted = fit(
        model,
        data.train,
        settings,
        losses_of(model, settings, data.train, teacher, distill),
        lambda: evaluate(model, data.dev),
        label=label,
        on_evaluation=on_evaluation,
    )
    return model, fitted


def teacher_of(distill: DistillSettings, data: TaskData):
    """The fine-tuned teacher, in eval; UserError when it reads other ids or knows other labels."""
    loaded = classifier.load(distill.teacher)
    if different := tokenizer.differences(loaded.tokenizer, data.tokenizer):
        raise UserError(
            f"{distill.teacher}: its tokenizer is not the student's ({'; '.join(different)}); both "
            "must read the same ids"
        )
    check_fits(loaded.model.kind, loaded.labels, data.task, Path(distill.teacher))
    loaded.model.eval()
    return loaded.model


def losses_of(
    model,
    settings: FitSettings,
    data: Encoded,
    teacher=None,
    distill: DistillSettings | None = None,
) -> Losses:
    """`losses(batch)` of fine-tuning: the kind's loss, mixed with a teacher's if there is one."""
    weight = model.loss_weight(data, settings.balance_classes)

    def losses(batch) -> Iterator[paddle.Tensor]:
        inputs = batch["input_ids"], batch["token_type_ids"]
        logits = model(*inputs)
        loss = model.loss(logits, batch["labels"], weight)
        if teacher is not None and distill is not None:
            with paddle.no_grad():
                target = teacher(*inputs)
            soft = model.soft_loss(logits, target, batch["labels"], distill.temperature, weight)
            loss = distill.alpha * soft + (1 - distill.alpha) * loss
        yield loss

    return losses
