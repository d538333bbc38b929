"""A task's examples as token ids, and classifier directories made from them."""

from dataclasses import dataclass
from pathlib import Path

from finetune.tasks import Task, open_task
from finetune.tasks.settings import TaskSettings
from finetune.training import classifier
from finetune.training.batches import Encoded
from finetune.training.evaluate import evaluate, logits_of
from finetune.training.files import check_fits, check_length
from finetune.training.fit import Fitted
from finetune.training.kinds import encode_examples


@dataclass
class TaskData:
    """The data of a task, encoded; `test` is what a finished model is reported on."""

    task: Task
    tokenizer: Path
    """Directory of the tokenizer's files."""
    max_length: int
    train: Encoded
    dev: Encoded
    test: Encoded

    def result(self, model, fitted: Fitted, **more) -> dict:
        """The content of result.json of a classifier directory."""
        decision = self.dev.decision(logits_of(model, self.dev)) if self.dev.decides else {}
        return {
            "task": self.task.name,
            "split": self.task.held_out_split,
            **evaluate(model, self.test.with_decision(decision)),
            "dev": fitted.best,
            **decision,
            "best_step": fitted.step,
            "max_length": self.max_length,
            **more,
            "history": fitted.history,
        }

    def save(self, model, directory: Path, result: dict) -> None:
        """Write a classifier directory."""
        classifier.save(model, directory, self.task.labels, self.tokenizer, result)


def encode_task(settings: TaskSettings, tokenizer: Path, max_length: int | None) -> TaskData:
    """Read and encode a task with the tokenizer of a model directory; `max_length` None is the
    task's own. UserError when it is more than the model has positions."""
    from data_pipeline.text.encode import WordPieceEncoder

    task = open_task(settings)
    encoder = WordPieceEncoder.of_directory(tokenizer)
    length = max_length or task.max_length
    check_length(tokenizer, length)
    data = (task.split("train"), task.split("dev"), task.held_out())
    encoded = (encode_examples(task, encoder, split, length) for split in data)
    return TaskData(task, tokenizer, length, *encoded)


def load_with_task(
    directory: Path, settings: TaskSettings
) -> tuple[classifier.Classifier, TaskData]:
    """A fine-tuned classifier and the task that it was fine-tuned on, encoded as it was then.

    UserError when the classifier is of another kind or has other labels than the task.
    """
    loaded = classifier.load(directory)
    data = encode_task(settings, loaded.tokenizer, loaded.result.get("max_length"))
    check_fits(loaded.model.kind, loaded.labels, data.task, Path(directory))
    return loaded.model, data
