"""What every stage that trains lays out first: the model, the task, and its splits as token ids."""

from dataclasses import dataclass
from pathlib import Path

from finetune.settings import TaskSettings
from finetune.tasks import Task, open_task
from finetune.training import classifier
from finetune.training.batches import Encoded, encode
from finetune.training.evaluate import evaluate
from finetune.training.fit import Fitted


@dataclass
class Splits:
    """A task's text as ids; `test` is what a finished model is judged by."""

    task: Task
    vocab: Path
    max_length: int
    train: Encoded
    dev: Encoded
    test: Encoded

    def result(self, model, fitted: Fitted, **more) -> dict:
        """What result.json of a classifier directory says."""
        return {
            "task": self.task.name,
            **evaluate(model, self.test),
            "dev": fitted.best,
            "best_step": fitted.step,
            "max_length": self.max_length,
            **more,
            "history": fitted.history,
        }

    def save(self, model, directory: Path, result: dict) -> None:
        """Write a classifier directory."""
        classifier.save(model, directory, self.task.labels, self.vocab, result)


def open_splits(settings: TaskSettings, vocab: Path, max_length: int | None) -> Splits:
    """Read and encode a task; `max_length` None is the task's own."""
    from data_pipeline.text.encode import WordPieceEncoder

    task = open_task(settings)
    encoder = WordPieceEncoder(vocab)
    length = max_length or task.max_length
    sets = (task.split("train"), task.split("dev"), task.held_out())
    return Splits(task, vocab, length, *(encode(encoder, examples, length) for examples in sets))


def open_classifier(
    directory: Path, settings: TaskSettings
) -> tuple[classifier.Classifier, Splits]:
    """A fine-tuned classifier and the task that it was fine-tuned on, encoded as it was then."""
    stored = classifier.load(directory)
    splits = open_splits(settings, stored.vocab, stored.result.get("max_length"))
    return stored.model, splits
