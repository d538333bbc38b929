"""docs/tasks.md: its table is the registry's, its recipe is valid, its code and sizes are right."""

import re
from pathlib import Path

import pytest
import yaml

from data_pipeline.base.recipes import check
from finetune.recipes import ClueRecipe, ExportRecipe, TrainRecipe
from finetune.settings import BudgetSettings, ChooseSettings
from finetune.tasks import Task, open_task
from finetune.tasks.entities import bio_sentences
from finetune.tasks.registry import TASKS
from finetune.tasks.settings import TaskSettings

PAGE = (Path(__file__).parents[3] / "docs" / "tasks.md").read_text(encoding="utf-8")
ROWS = [line.split("|")[1:-1] for line in PAGE.splitlines() if line.startswith("| `")]


def blocks(language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return [text for name, text in fenced if name == language]


def test_the_table_has_every_task_and_no_other():
    assert [name for row in ROWS for name in re.findall(r"`(\w+)`", row[0])] == list(TASKS)


@pytest.mark.parametrize("row", [row for row in ROWS if "," in row[3]], ids=lambda row: row[0])
def test_sizes_are_those_of_the_splits(row):
    task = open_task(TaskSettings(name=row[0].strip(" `")))
    sizes = [int(number.replace(",", "")) for number in re.findall(r"[\d,]+", row[3])]
    assert [len(task.split(split)) for split in ("train", "dev", "test")] == sizes
    assert ("entity F1" in row[2]) == (task.kind == "tokens")


def test_the_recipes_are_valid():
    recipes = [yaml.safe_load(text) for text in blocks("yaml")]
    trained = [check(TrainRecipe, values, "docs") for values in recipes if "task" in values]
    assert [recipe.task.name for recipe in trained] == ["people_daily_ner", "score_file"]
    exported, clue, part = (values for values in recipes if "task" not in values)
    assert check(ExportRecipe, exported, "docs").embedding.pooling == "mean"
    assert len(check(ClueRecipe, clue, "docs").tasks) == 7
    assert check(BudgetSettings, part["budget"], "docs").latency_ms == 5
    assert check(ChooseSettings, part["choose"], "docs").allowed_loss == 1.0


def test_the_columns_can_be_read(tmp_path):
    path = tmp_path / "a.bio"
    path.write_text(next(text for text in blocks("") if "B-PER" in text), encoding="utf-8")
    (example,) = bio_sentences(path, None)
    assert example.text == "江泽民在北京"
    assert [span.label for span in example.spans] == ["PER", "LOC"]


def test_the_code_makes_a_task():
    names: dict = {}
    exec(blocks("python")[0], names)
    task = names["weather"](TaskSettings(name="users_tasks:weather"))
    assert isinstance(task, Task)
    assert [example.label for example in task.split("train")] == [1, 0]
