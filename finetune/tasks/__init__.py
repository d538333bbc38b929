"""Tasks: labelled texts, pairs and entities, from installed packages, CLUE and a user's files."""

from finetune.tasks.base import SPLITS, Example, Span, Task
from finetune.tasks.registry import open_task, source_of

__all__ = ["SPLITS", "Example", "Span", "Task", "open_task", "source_of"]
