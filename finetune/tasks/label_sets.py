"""A user's texts or pairs with any number of labels each."""

from typing import Any

from data_pipeline.base.errors import UserError
from finetune.tasks.base import Example, Task
from finetune.tasks.files import LabelledRow, index_of, rows, training_file
from finetune.tasks.options import TaskOptions


def multi_label_file(settings: TaskOptions) -> Task:
    """A task from `settings.train/dev/test`; labels are those of train, in sorted order."""
    train = training_file(settings)
    names = sorted({name for row in rows(train, settings) for name in names_of(row, settings)})
    if not names:
        raise UserError(f"{train}: no text has a label")
    index = {name: number for number, name in enumerate(names)}

    def read(split: str) -> list[Example] | None:
        path = getattr(settings, split)
        return None if path is None else [example(row) for row in rows(path, settings)]

    def example(row: LabelledRow) -> Example:
        indices = {index_of(name, index, row.where) for name in names_of(row, settings)}
        return Example(row.text, row.pair, labels=tuple(sorted(indices)))

    return Task(train.stem, names, read, kind="multi_label")


def names_of(row: LabelledRow, settings: TaskOptions) -> list[str]:
    """The labels of a row, perhaps none; UserError when the field is no list of them."""
    value: Any = row.label
    if isinstance(value, str):
        value = value.split(settings.separator) if value.strip() else []
    if not isinstance(value, list) or not all(isinstance(name, str | int) for name in value):
        raise UserError(
            f"{row.where}: {settings.label} {value!r} is not a list of labels; in .jsonl it is a "
            f"JSON list, in .tsv and .csv they are separated by {settings.separator!r}"
        )
    return [str(name).strip() for name in value if str(name).strip()]
