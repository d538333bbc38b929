"""The seven CLUE classification tasks with one encoder: for each the published search and a row,
averages, and files to submit.

A task that is finished is not done again; within a task, the search continues where it stopped.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

from data_pipeline.base.files import write_atomically, write_json
from data_pipeline.base.machine import machine
from finetune.recipes import ClueRecipe, SearchRecipe
from finetune.tasks import open_task
from finetune.tasks.clue import FORMATS, submission_examples
from finetune.tasks.settings import TaskSettings
from finetune.training.files import read_result
from finetune.training.output import Input, locked, make_once
from finetune.training.search import search
from pretrain.encoders.config import DEFAULT_SIZES, locate, read_config
from pretrain.training.flops import Shape, block

ROW, TABLE, PAGE = "row.json", "clue.json", "clue.md"
WINOGRAD = "cluewsc2020"  # 304 dev examples: its figure moves by points from seed to seed
FLOPS_LENGTH = 128
# Dev accuracy in percent, in the order of FORMATS, with the mean over the seven.
# Source: PaddleNLP, examples/model_compression/pp-minilm/README.md
PUBLISHED = {
    "BERT-base": (74.17, 57.17, 61.14, 81.14, 75.08, 80.26, 81.47),
    "PP-MiniLM 6L-768H": (74.28, 57.33, 61.72, 81.06, 76.2, 86.51, 78.77),
}


def clue(recipe: ClueRecipe) -> dict:
    """Every task of the recipe; returns the content of clue.json."""
    config = DEFAULT_SIZES | read_config(recipe.encoder)  # the error says how to get an encoder
    recipe = recipe.model_copy(update={"encoder": locate(recipe.encoder)})
    for name in recipe.tasks:  # what is missing shows before hours of work
        task = open_task(task_settings(recipe, name))
        task.split("train"), task.split("dev")
    with locked(recipe.output_dir):
        return all_tasks(recipe, flops(config))


def all_tasks(recipe: ClueRecipe, operations: dict[str, float]) -> dict:
    """`clue`, once the output directory is locked."""
    rows: list[dict] = []
    table: dict = {}
    for name in recipe.tasks:
        rows.append(one_task(recipe, name))
        table = {
            "encoder": str(recipe.encoder),
            **operations,
            "rows": rows,
            **averages({row["task"]: row["accuracy"] for row in rows}),
            "submissions": sorted(f"{row['directory']}/{f}" for row in rows for f in row["files"]),
            "machine": machine("paddlepaddle", "paddlenlp"),
        }
        write_json(recipe.output_dir / TABLE, table)
        write_atomically(recipe.output_dir / PAGE, page(table))
        print(in_words(rows[-1]), file=sys.stderr, flush=True)
    return table


def task_settings(recipe: ClueRecipe, name: str) -> TaskSettings:
    """The task's section of a recipe."""
    return TaskSettings(name=name, directory=recipe.directory / name)


def search_recipe(recipe: ClueRecipe, name: str) -> SearchRecipe:
    """The search of one task: the recipe's grid at the task's own length and epochs."""
    epochs = recipe.epochs.get(name, FORMATS[name].epochs)
    return SearchRecipe(
        output_dir=recipe.output_dir / name / "search",
        encoder=recipe.encoder,
        weights=recipe.weights,
        task=task_settings(recipe, name),
        train=recipe.train.model_copy(update={"epochs": epochs}),
        max_length=recipe.max_lengths.get(name, FORMATS[name].max_length),
        search=recipe.search,
    )


def one_task(recipe: ClueRecipe, name: str) -> dict:
    """Search, submission files and row.json of a task; returns the row."""
    searched = search_recipe(recipe, name)

    def write(directory: Path) -> None:
        began = time.monotonic()
        outcome = search(searched)
        task = open_task(searched.task)
        files = write_submissions(Path(outcome["classifier"]), searched.task, directory)
        row = {
            "task": name,
            "accuracy": read_result(Path(outcome["classifier"]))["dev"]["accuracy"],
            "examples": len(task.split("dev")),
            "best": outcome["best"],
            "epochs": searched.train.epochs,
            "max_length": searched.max_length,
            "trials": [{**trial["params"], "value": trial["value"]} for trial in outcome["trials"]],
            "seconds": round(time.monotonic() - began),
            "classifier": outcome["classifier"],
            "directory": str(recipe.output_dir / name / "row"),
            "files": files,
        }
        write_json(directory / ROW, row)

    inputs: list[Input] = [searched.encoder, searched.task]
    made = make_once("clue", recipe.output_dir / name / "row", searched, inputs, write)
    return json.loads((made / ROW).read_text(encoding="utf-8"))


def write_submissions(classifier: Path, task: TaskSettings, directory: Path) -> list[str]:
    """A line {"id": ..., "label": ...} for each record of each official test file that is there, in
    their order; the names of the files written."""
    from finetune.deploy.predict import Predictor

    if task.directory is None:
        return []
    predictor = Predictor(classifier)
    written = []
    for source, name in FORMATS[task.name].submissions.items():
        path = task.directory / source
        if not path.is_file():
            continue
        ids, examples = submission_examples(path, task.name)
        answers = predictor.predict([e.text for e in examples], [e.pair for e in examples])
        lines = (
            json.dumps({"id": number, "label": one.label}, ensure_ascii=False) + "\n"
            for number, one in zip(ids, answers, strict=True)
        )
        write_atomically(directory / name, "".join(lines))
        written.append(name)
    return written


def averages(accuracies: dict[str, float]) -> dict[str, float | None]:
    """Mean over the seven tasks, as published, and over the six without CLUEWSC2020; None while
    some are missing."""

    def mean(names: list[str]) -> float | None:
        if any(name not in accuracies for name in names):
            return None
        return float(np.mean([accuracies[name] for name in names]))

    seven = list(FORMATS)
    without = [name for name in seven if name != WINOGRAD]
    return {"average": mean(seven), "average_without_wsc": mean(without)}


def flops(config: dict) -> dict[str, float]:
    """Forward pass of one text of 128 tokens, in 10^9: multiply-adds of the weight matrices alone,
    as the published tables count; and operations, 2 a multiply-add, those of attention too."""
    shape = Shape(config["hidden_size"], config["intermediate_size"])
    layers = config["num_hidden_layers"]
    weights = 4 * shape.hidden**2 + 2 * shape.hidden * shape.intermediate
    return {
        "giga_multiply_adds_of_weights": layers * weights * FLOPS_LENGTH / 1e9,
        "gflops": layers * block(shape, FLOPS_LENGTH, FLOPS_LENGTH) / 1e9,
    }


def in_words(row: dict) -> str:
    """One line on a finished task."""
    best = ", ".join(f"{name} {value:g}" for name, value in row["best"].items())
    share = f"{100 * row['accuracy']:.2f}% of {row['examples']} dev examples"
    return f"clue: {row['task']} {share} ({best})"


def page(table: dict) -> str:
    """clue.md: the encoder's row, and the published ones."""
    own = {row["task"]: 100 * row["accuracy"] for row in table["rows"]}
    average = table["average"]
    columns = [
        *(f"{own[name]:.2f}" if name in own else "" for name in FORMATS),
        f"{100 * average:.2f}" if average is not None else "",
        "" if average is None else f"{100 * table['average_without_wsc']:.2f}",
        f"{table['giga_multiply_adds_of_weights']:.2f}",
    ]
    lines = [
        "Accuracy on dev in percent; the best of the grid for each task.",
        "",
        "| encoder | " + " | ".join(FORMATS) + " | average | without WSC | 10^9 multiply-adds |",
        "|---|" + "---|" * (len(FORMATS) + 3),
        f"| {Path(table['encoder']).name} (measured) | " + " | ".join(columns) + " |",
    ]
    for name, values in PUBLISHED.items():
        of_task = dict(zip(FORMATS, values, strict=True))
        both = (np.mean(values), np.mean([v for task, v in of_task.items() if task != WINOGRAD]))
        shown = " | ".join(f"{value:.2f}" for value in (*values, *both))
        lines.append(f"| {name} (published by PaddleNLP) | {shown} | |")
    return "\n".join(lines) + "\n"
