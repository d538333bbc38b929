"""The section `task` of a recipe, its name checked against the table of tasks."""

import difflib

from pydantic import field_validator

from finetune.tasks.options import TaskOptions
from finetune.tasks.registry import TASKS


class TaskSettings(TaskOptions):
    """Which task, and where its files are."""

    @field_validator("name")
    @classmethod
    def _name_is_known(cls, name: str) -> str:
        if name in TASKS or ":" in name:
            return name
        near = difflib.get_close_matches(name, TASKS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(
            f"no such task; {hint}one of {', '.join(TASKS)}, or package.module:function"
        )
