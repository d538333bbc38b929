"""A user's texts or pairs with a score each: regression, and similarity where there are pairs."""

import math
from typing import Any

from data_pipeline.base.errors import UserError
from finetune.tasks.base import Example, Task
from finetune.tasks.files import rows, training_file
from finetune.tasks.options import TaskOptions


def score_file(settings: TaskOptions) -> Task:
    """A task from `settings.train/dev/test`, whose column `settings.label` holds numbers."""
    train = training_file(settings)

    def read(split: str) -> list[Example] | None:
        path = getattr(settings, split)
        if path is None:
            return None
        examples = [
            Example(row.text, row.pair, score=number_in(row.label, settings.label, row.where))
            for row in rows(path, settings)
        ]
        if split == "train" and len({example.score for example in examples}) < 2:
            raise UserError(f"{path}: all scores are equal; nothing to learn")
        return examples

    return Task(train.stem, [settings.label], read, kind="regression")


def number_in(value: Any, column: str, where: str) -> float:
    """The score in a field; UserError when it is no finite number."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{where}: {column} {value!r} is not a number")
    return number
