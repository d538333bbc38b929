"""From settings to a task."""

from dataclasses import replace

from finetune.settings import TaskSettings
from finetune.tasks.base import Task


def open_task(settings: TaskSettings) -> Task:
    """The task that `settings` names; a UserError says what is missing and where it belongs."""
    if settings.name == "inews":
        from finetune.tasks.packaged import inews

        task = inews(settings.fields)
    elif settings.name == "reviews":
        from finetune.tasks.packaged import reviews

        task = reviews()
    elif settings.name == "file":
        from finetune.tasks.own import own_file

        task = own_file(settings)
    else:
        from finetune.tasks.clue import clue

        task = clue(settings.name, settings.directory)
    if settings.train_limit:
        return replace(task, read=_limited(task.read, settings.train_limit))
    return task


def _limited(read, limit: int):
    def read_limited(split: str):
        examples = read(split)
        return examples[:limit] if split == "train" and examples else examples

    return read_limited
