"""From settings to a task: the one table of all tasks.

To add a task, write a function from `TaskOptions` to `Task` and enter it here under its name. The
modules import nothing heavy before a split is read.
"""

import importlib
from collections.abc import Callable
from dataclasses import replace

from data_pipeline.base.errors import UserError
from finetune.tasks import clue, entities, files, matching, packaged, people_daily
from finetune.tasks.base import Task
from finetune.tasks.options import TaskOptions

TASKS: dict[str, Callable[[TaskOptions], Task]] = {
    "inews": packaged.inews,
    "inews_matching": matching.inews_matching,
    "reviews": packaged.reviews,
    "reviews_500": packaged.reviews_500,
    "people_daily_ner": people_daily.entities,
    "people_daily_pos": people_daily.parts_of_speech,
    **{name: clue.open_clue for name in clue.FORMATS},
    "cluener": entities.cluener,
    "msra": entities.msra,
    "file": files.labelled_file,
    "bio_file": entities.bio_file,
}


def open_task(settings: TaskOptions) -> Task:
    """The task that `settings` names; a UserError says what is missing and where it belongs."""
    task = _function_of(settings.name)(settings)
    if settings.train_limit:
        return replace(task, read=_limited(task.read, settings.train_limit), _splits={})
    return task


def _function_of(name: str) -> Callable[[TaskOptions], Task]:
    if name in TASKS:
        return TASKS[name]
    module, _, function = name.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"task.name: {name}: cannot be imported: {error}") from None


def _limited(read, limit: int):
    def read_limited(split: str):
        examples = read(split)
        return examples[:limit] if split == "train" and examples else examples

    return read_limited
