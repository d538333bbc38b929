"""CLUE from one command on synthetic folders in the official formats: rows, files, going on."""

import json
from pathlib import Path

import pytest

from data_pipeline.base.errors import UserError
from data_pipeline.base.recipes import check
from finetune import clue
from finetune.deploy.predict import Predictor
from finetune.recipes import ClueRecipe
from finetune.tasks.clue import FORMATS
from finetune.training.output import locked
from tests.finetune.conftest import sentences, write_jsonl


def tnews(count, offset=0):
    names = {"weather": "101", "money": "102"}
    return [
        {"label": names[row["label"]], "sentence": row["text"]} for row in sentences(count, offset)
    ]


def cluewsc(count, offset=0):
    return [
        {
            "target": {"span1_index": 0, "span1_text": row["text"][0], "span2_index": 2}
            | {"span2_text": row["text"][2]},
            "idx": number,
            "label": str(row["label"] == "money").lower(),
            "text": row["text"],
        }
        for number, row in enumerate(sentences(count, offset), 7)
    ]


def without_labels(rows):
    return [{key: value for key, value in row.items() if key != "label"} for row in rows]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("clue")
    for name, make in (("tnews", tnews), ("cluewsc2020", cluewsc)):
        (root / name).mkdir()
        write_jsonl(root / name / "train.json", make(64))
        write_jsonl(root / name / "dev.json", make(24, 1000))
        write_jsonl(root / name / "test.json", without_labels(make(10, 2000)))
    write_jsonl(root / "tnews" / "test1.0.json", without_labels(tnews(6, 3000)))
    return root


@pytest.fixture(scope="module")
def recipe(folder, encoder):
    values = {
        "output_dir": folder / "out",
        "encoder": encoder,
        "directory": folder,
        "tasks": ["tnews", "cluewsc2020"],
        "train": {"dropout": 0.0},
        "search": {"batch_sizes": [16], "learning_rates": [3e-4, 3e-3]},
        "epochs": {"tnews": 4, "cluewsc2020": 1},
        "max_lengths": {"tnews": 16, "cluewsc2020": 24},
    }
    return check(ClueRecipe, values, "test")


@pytest.fixture(scope="module")
def table(recipe):
    return clue.clue(recipe)


def test_a_row_a_task_with_the_best_of_its_grid(table, recipe):
    assert [row["task"] for row in table["rows"]] == ["tnews", "cluewsc2020"]
    for row in table["rows"]:
        values = {trial["learning_rate"]: trial["value"] for trial in row["trials"]}
        assert values.keys() == {3e-4, 3e-3}
        assert row["accuracy"] == max(values.values()) == values[row["best"]["learning_rate"]]
    first = table["rows"][0]
    assert (first["epochs"], first["max_length"], first["examples"]) == (4, 16, 24)
    assert table["average"] is None and table["average_without_wsc"] is None
    assert json.loads((recipe.output_dir / "clue.json").read_text()) == table
    page = (recipe.output_dir / "clue.md").read_text()
    assert f"| {100 * first['accuracy']:.2f} |" in page
    assert "PP-MiniLM 6L-768H (published by PaddleNLP)" in page and "| 73.70 |" in page


def test_submissions_hold_the_best_model_s_labels_in_the_order_of_the_test_file(table, folder):
    tnews_row, wsc_row = table["rows"]
    assert tnews_row["files"] == ["tnews11_predict.json", "tnews10_predict.json"]
    assert wsc_row["files"] == ["cluewsc11_predict.json"]
    predictor = Predictor(tnews_row["classifier"])
    for source, name in (("test.json", "tnews11"), ("test1.0.json", "tnews10")):
        path = folder / "out" / "tnews" / "row" / f"{name}_predict.json"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        tests = [json.loads(line) for line in (folder / "tnews" / source).read_text().splitlines()]
        found = predictor.predict([test["sentence"] for test in tests])
        assert lines == [{"id": n, "label": one.label} for n, one in enumerate(found)]
    wsc = (folder / "out" / "cluewsc2020" / "row" / "cluewsc11_predict.json").read_text()
    ids = [json.loads(line)["id"] for line in wsc.splitlines()]
    assert ids == list(range(7, 17))
    assert {json.loads(line)["label"] for line in wsc.splitlines()} <= {"true", "false"}


def test_a_finished_task_is_not_done_again(table, recipe, capsys):
    (recipe.output_dir / "tnews" / "row" / "row.json").unlink()
    again = clue.clue(recipe)
    shown = capsys.readouterr().err
    assert "trial " not in shown  # the search of tnews was finished too
    assert "clue: " in shown and "finished already" in shown
    assert [row["accuracy"] for row in again["rows"]] == [row["accuracy"] for row in table["rows"]]


def test_accuracy_is_accuracy_whatever_models_are_chosen_by(recipe, folder):
    train = recipe.train.model_copy(update={"choose_by": "macro_f1"})
    search = recipe.search.model_copy(update={"learning_rates": (3e-4,)})
    more = {"tasks": ("tnews",), "output_dir": folder / "f1", "train": train, "search": search}
    (row,) = clue.clue(recipe.model_copy(update=more))["rows"]
    dev = json.loads((Path(row["classifier"]) / "result.json").read_text())["dev"]
    assert row["accuracy"] == dev["accuracy"] != dev["macro_f1"] == row["trials"][0]["value"]


def test_two_processes_do_not_fill_one_table(recipe):
    with locked(recipe.output_dir), pytest.raises(UserError, match="written by another process"):
        clue.clue(recipe)


def test_what_is_missing_shows_before_any_work(recipe, folder):
    more = recipe.model_copy(update={"tasks": ("tnews", "csl"), "output_dir": folder / "none"})
    with pytest.raises(UserError, match="task csl: the folder is missing"):
        clue.clue(more)
    assert not (folder / "none").exists()


def test_averages_and_operations_are_those_of_the_published_table():
    for name, average in (("BERT-base", 72.92), ("PP-MiniLM 6L-768H", 73.70)):
        values = dict(zip(FORMATS, clue.PUBLISHED[name], strict=True))
        found = clue.averages(values)
        assert found["average"] == pytest.approx(average, abs=0.01)
        six = [value for task, value in values.items() if task != "cluewsc2020"]
        assert found["average_without_wsc"] == pytest.approx(sum(six) / 6)
    base = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12}
    assert clue.flops(base)["giga_multiply_adds_of_weights"] == pytest.approx(10.87, abs=0.01)
    attention = 12 * 2 * 2 * 128 * 128 * 768 / 1e9
    assert clue.flops(base)["gflops"] == pytest.approx(2 * 10.87 + attention, abs=0.02)


def test_the_default_grid_and_epochs_are_the_published_ones(encoder, tmp_path):
    recipe = ClueRecipe(output_dir=tmp_path, encoder=encoder, directory=tmp_path)
    searched = {name: clue.search_recipe(recipe, name) for name in recipe.tasks}
    epochs = {name: one.train.epochs for name, one in searched.items()}
    assert epochs == dict(zip(FORMATS, (3, 3, 6, 3, 6, 50, 8), strict=True))
    assert {name for name, one in searched.items() if one.max_length == 256} == {"csl"}
    assert searched["csl"].search.learning_rates == (3e-5, 5e-5, 1e-4)
    assert searched["csl"].search.batch_sizes == (16, 32, 64)
