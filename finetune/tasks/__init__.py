"""What is to be learnt: labelled sentences or pairs, from CLUE, a package or a file."""

from finetune.tasks.base import SPLITS, Example, Task
from finetune.tasks.registry import open_task

__all__ = ["SPLITS", "Example", "Task", "open_task"]
