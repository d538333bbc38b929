"""What a task's function is given: the section `task` of a recipe."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from data_pipeline.base.recipes import Recipe


class TaskOptions(Recipe):
    """Which task, and where its files are."""

    name: str
    """A name from the table in finetune/tasks/registry.py, or `package.module:function` for a
    function of the user's that takes these settings and returns a `Task`."""
    directory: Path | None = None
    """CLUE, CLUENER and MSRA: the unpacked folder of the task."""
    fields: Literal["title", "title_body"] = "title"
    """`inews`: classify the title alone, or the title with the body as its pair."""
    train: Path | None = None
    """`file` (.tsv, .csv or .jsonl) and `bio_file`: training data."""
    dev: Path | None = None
    """`file` and `bio_file`: data on which the best checkpoint is chosen."""
    test: Path | None = None
    """`file` and `bio_file`: data that is only reported on; without it, dev is reported on."""
    text: str = "text"
    """`file`: name of the column with the (first) sentence."""
    pair: str | None = None
    """`file`: name of the column with the second sentence, if there is one."""
    label: str = "label"
    """`file`: name of the column with the label."""
    train_limit: int | None = Field(None, ge=1)
    """Use only the first so many training examples (a quick try)."""
