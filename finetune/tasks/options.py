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
    """`file`, `score_file` and `multi_label_file` (.tsv, .csv or .jsonl), `bio_file`: training
    data."""
    dev: Path | None = None
    """The same: data on which the best checkpoint is chosen."""
    test: Path | None = None
    """The same: data that is only reported on; without it, dev is reported on."""
    text: str = "text"
    """Own files but `bio_file`: name of the column with the (first) sentence."""
    pair: str | None = None
    """The same: name of the column with the second sentence, if there is one."""
    label: str = "label"
    """The same: name of the column with the label, the score, or the labels."""
    separator: str = Field(",", min_length=1)
    """`multi_label_file`: what stands between the labels of a text in a .tsv or .csv; a .jsonl has
    a list."""
    train_limit: int | None = Field(None, ge=1)
    """Use only the first so many training examples (a quick try)."""
