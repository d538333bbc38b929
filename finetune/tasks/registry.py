"""From settings to a task: the one table of all tasks.

To add a task, write a function from `TaskOptions` to `Task` and enter it here under its name. The
modules import nothing heavy before a split is read.
"""

from collections.abc import Callable
from dataclasses import replace

from data_pipeline.base.errors import UserError
from data_pipeline.base.functions import function_digest, load_function
from finetune.tasks import (
    clue,
    entities,
    files,
    label_sets,
    matching,
    packaged,
    people_daily,
    scored,
)
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
    "score_file": scored.score_file,
    "multi_label_file": label_sets.multi_label_file,
}

CORPORA = {  # tasks that read a corpus of `data_pipeline.sources.packaged`, and which
    "inews": "inews",
    "inews_matching": "inews",
    "reviews": "reviews",
    "reviews_500": "reviews",
    "people_daily_ner": "people_daily",
    "people_daily_pos": "people_daily",
}


def open_task(settings: TaskOptions) -> Task:
    """The task that `settings` names; a UserError says what is missing and where it belongs."""
    name = settings.name
    task = (TASKS[name] if name in TASKS else load_function(name))(settings)
    if not isinstance(task, Task):
        kind = type(task).__name__
        raise UserError(f"task.name: {name} returned {kind}, not a finetune.tasks.Task")
    if settings.train_limit:
        return replace(task, read=_limited(task.read, settings.train_limit), _splits={})
    return task


def source_of(settings: TaskOptions) -> dict[str, str]:
    """What a task reads besides files that its settings name, and what changes with its content:
    an installed package and its version, or a function of the user's and the digest of its file."""
    name = settings.name
    if name in CORPORA:
        from data_pipeline.sources import packaged

        return dict([packaged.version(CORPORA[name])])
    return {} if name in TASKS else {name: function_digest(name)}


def _limited(read, limit: int):
    def read_limited(split: str):
        examples = read(split)
        return examples[:limit] if split == "train" and examples else examples

    return read_limited
