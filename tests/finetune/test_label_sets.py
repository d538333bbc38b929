"""Several labels a text through every stage: a tiny encoder learns which of three are there."""

import json

import pytest
from sklearn.metrics import f1_score

from data_pipeline.base.errors import UserError
from data_pipeline.base.recipes import check
from finetune import stages
from finetune.__main__ import main
from finetune.deploy.predict import Predictor
from finetune.recipes import PruneRecipe, QuantiseRecipe, ReportRecipe
from finetune.settings import DistillSettings, FitSettings, ReportSettings, WidthSettings
from finetune.tasks import open_task
from finetune.tasks.settings import TaskSettings
from finetune.training import classifier
from finetune.training.kinds import encode_examples
from tests.finetune.conftest import (
    exported,
    jsonl_splits,
    rounded_and_sparse,
    sentences,
    trained,
    write_jsonl,
    zeros_of,
)

FIT = FitSettings(epochs=10, batch_size=16, learning_rate=3e-3, dropout=0.0)
LABELS = {"market": "股", "rain": "雨", "sun": "晴"}


def labelled(count: int, offset: int = 0) -> list[dict]:
    """Each label is there when its character is; every eighth text has none."""
    rows = []
    for number, row in enumerate(sentences(count, offset), offset):
        there = [label for bit, label in enumerate(LABELS) if number >> bit & 1]
        filler = "".join(c for c in row["text"] if c not in "股雨晴")
        rows.append({"text": filler + "".join(LABELS[label] for label in there), "labels": there})
    return rows


def two_labels() -> tuple[str, set[str]]:
    """A training text with two labels, and these."""
    row = next(row for row in labelled(192) if len(row["labels"]) == 2)
    return row["text"], set(row["labels"])


@pytest.fixture(scope="module")
def task(workshop):
    files = jsonl_splits(workshop, "sets", labelled)
    return TaskSettings(name="multi_label_file", label="labels", **files)


@pytest.fixture(scope="module")
def tagger(workshop, encoder, task):
    return trained(workshop / "tagger", encoder, task, FIT)


@pytest.fixture(scope="module")
def tagger_onnx(tagger):
    return exported(tagger)


def micro_f1(directory, task) -> float:
    examples = open_task(task).split("test")
    found = Predictor(directory).predict([example.text for example in examples])
    predicted = [[name in one.labels for name in LABELS] for one in found]
    gold = [[index in example.labels for index in range(3)] for example in examples]
    return f1_score(gold, predicted, average="micro")


def test_it_learns_and_the_threshold_is_that_of_dev(tagger, task):
    result = json.loads((tagger / "result.json").read_text())
    assert result["micro_f1"] > 0.9
    assert result["dev"].keys() == {"micro_f1", "macro_f1"}
    assert result["micro_f1"] == pytest.approx(micro_f1(tagger, task))
    loaded, predictor = classifier.load(tagger), Predictor(tagger)
    assert loaded.model.kind == "multi_label"
    opened = open_task(task)
    dev = encode_examples(opened, predictor.encoder, opened.split("dev"), 24)
    logits = predictor.encoded_logits(dev)
    assert result["threshold"] == pytest.approx(dev.decision(logits)["threshold"], abs=1e-6)
    assert dev.scores(logits)["micro_f1"] == pytest.approx(result["dev"]["micro_f1"])
    assert json.loads((tagger / "config.json").read_text())["problem_type"] == (
        "multi_label_classification"
    )


def test_the_exported_graph_has_the_threshold(tagger, tagger_onnx, task, capsys):
    deploy = json.loads((tagger_onnx / "deploy.json").read_text())
    assert deploy["threshold"] == json.loads((tagger / "result.json").read_text())["threshold"]
    assert micro_f1(tagger_onnx, task) == micro_f1(tagger, task)
    text, names = two_labels()
    assert main(["predict", str(tagger_onnx), text]) == 0
    printed, line = capsys.readouterr().out.rstrip("\n").split("\t")
    assert (set(printed.split(",")), line) == (names, text)
    predictor = Predictor(tagger_onnx)
    predictor.decision = {"threshold": 1e-9}
    (everything,) = predictor.predict([text])
    probabilities = everything.probabilities
    assert everything.labels == sorted(probabilities, key=probabilities.get, reverse=True)
    (tagger_onnx / "deploy.json").write_text(json.dumps(deploy | {"threshold": 1.5}))
    with pytest.raises(UserError, match=r"threshold 1\.5 is not a number between 0 and 1"):
        Predictor(tagger_onnx)
    (tagger_onnx / "deploy.json").write_text(json.dumps(deploy))


def test_int8_and_the_report_go_by_micro_f1(workshop, tagger_onnx, task):
    values = {
        "output_dir": workshop / "tagger-int8",
        "model": tagger_onnx,
        "task": task.model_dump(),
        "quantise": {"mode": "static", "batches": 4, "allowed_drop": 5.0},
    }
    int8 = stages.quantise(check(QuantiseRecipe, values, "test"))
    deploy = json.loads((int8 / "deploy.json").read_text())
    assert deploy["dev"]["score"] == "micro_f1" and 0 < deploy["threshold"] < 1
    report = stages.report(
        ReportRecipe(
            output_dir=workshop / "tagger-report",
            task=task,
            models={"fp32": tagger_onnx, "int8": int8},
            report=ReportSettings(repeats=2, batch_repeats=2, batch_sizes=(1,), threads=(1,)),
        )
    )
    content = json.loads((report / "report.json").read_text())
    assert content["score"] == "micro_f1"
    for row, directory in zip(content["models"], (tagger_onnx, int8), strict=True):
        assert row["micro_f1"] == pytest.approx(micro_f1(directory, task))


def test_widths_a_teacher_and_balance_work_on_label_sets(workshop, encoder, tagger, task):
    fit = FIT.model_copy(update={"epochs": 3.0})
    (half,) = stages.prune(
        PruneRecipe(
            output_dir=workshop / "tagger-pruned",
            classifier=tagger,
            task=task,
            prune=WidthSettings(widths=(0.5,), importance_examples=48, fit=fit),
        )
    )
    result = json.loads((half / "result.json").read_text())
    assert result["micro_f1"] > 0.8 and 0 < result["threshold"] < 1
    fit = FIT.model_copy(update={"balance_classes": True})
    distill = DistillSettings(teacher=tagger, alpha=0.8)
    taught = trained(workshop / "tagger-taught", encoder, task, fit, distill=distill)
    assert json.loads((taught / "result.json").read_text())["micro_f1"] > 0.8


def test_training_for_int8_and_movement_pruning_work_on_label_sets(tagger, task):
    """Their thresholds are chosen anew on dev, and are those of the stored models."""
    rounded, sparse = rounded_and_sparse(tagger, task)
    for directory in (rounded, sparse):
        result = json.loads((directory / "result.json").read_text())
        assert result["dev"].keys() == {"micro_f1", "macro_f1"}
        assert result["micro_f1"] > 0.85 and 0 < result["threshold"] < 1
        assert micro_f1(directory, task) == pytest.approx(result["micro_f1"], abs=0.05)
    assert zeros_of(sparse) == pytest.approx(0.5, abs=0.01)


def test_tables_separate_labels_and_refusals_name_the_row(tmp_path):
    table = tmp_path / "sets.tsv"
    table.write_text("text\tlabels\n我\tsun;rain\n你\t\n他\train\n", encoding="utf-8")
    settings = TaskSettings(
        name="multi_label_file", label="labels", separator=";", train=table, dev=table
    )
    task = open_task(settings)
    assert task.labels == ["rain", "sun"]
    assert [example.labels for example in task.split("dev")] == [(0, 1), (), (0,)]
    other = write_jsonl(tmp_path / "other.jsonl", [{"text": "我", "labels": ["snow"]}])
    with pytest.raises(UserError, match=r"other\.jsonl, line 1: label 'snow' is not among"):
        open_task(settings.model_copy(update={"test": other})).split("test")
    wrong = write_jsonl(tmp_path / "wrong.jsonl", [{"text": "我", "labels": {"sun": 1}}])
    with pytest.raises(UserError, match=r"wrong\.jsonl, line 1: labels .* is not a list of labels"):
        open_task(settings.model_copy(update={"train": wrong}))
    none = write_jsonl(tmp_path / "none.jsonl", [{"text": "我", "labels": []}])
    with pytest.raises(UserError, match="no text has a label"):
        open_task(settings.model_copy(update={"train": none}))


def test_label_sets_over_http(tagger_onnx):
    from fastapi.testclient import TestClient

    from finetune.recipes import ServeRecipe
    from finetune.serve.app import create_app

    app = create_app(Predictor(tagger_onnx), ServeRecipe(model=tagger_onnx))
    text, names = two_labels()
    with TestClient(app) as client:
        answer = client.post("/predict", json={"texts": [text]})
    assert answer.status_code == 200
    (one,) = answer.json()["predictions"]
    assert set(one["labels"]) == names
    assert one["probabilities"].keys() == LABELS.keys()
