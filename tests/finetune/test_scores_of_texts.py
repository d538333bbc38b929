"""Regression and similarity through every stage: a tiny encoder learns scores of 0 to 70."""

import json
import shutil
from pathlib import Path

import numpy as np
import paddle
import pytest
from scipy import stats

from data_pipeline.base.errors import UserError
from data_pipeline.base.recipes import check
from finetune import stages
from finetune.__main__ import main
from finetune.deploy.predict import Predictor
from finetune.recipes import (
    PruneRecipe,
    QatRecipe,
    QuantiseRecipe,
    ReportRecipe,
    SparseRecipe,
    TrainRecipe,
)
from finetune.settings import DistillSettings, FitSettings, ReportSettings, WidthSettings
from finetune.tasks import open_task
from finetune.tasks.settings import TaskSettings
from finetune.training import classifier, heads
from finetune.training.score_data import EncodedScores
from tests.finetune.conftest import (
    MONEY,
    WEATHER,
    exported,
    jsonl_splits,
    rounded_and_sparse,
    sentences,
    trained,
    write_jsonl,
    zeros_of,
)

FIT = FitSettings(epochs=10, batch_size=16, learning_rate=3e-3, dropout=0.0)
TELLING = (*WEATHER, *MONEY)


def scored(count: int, offset: int = 0) -> list[dict]:
    """Ten times the number of the telling character; the pair says nothing."""
    rows = []
    for row in sentences(count, offset):
        (place,) = (i for i, telling in enumerate(TELLING) if telling in row["text"])
        rows.append({"text": row["text"], "other": "我你", "score": 10 * place})
    return rows


@pytest.fixture(scope="module")
def task(workshop):
    files = jsonl_splits(workshop, "scores", scored)
    return TaskSettings(name="score_file", pair="other", label="score", **files)


@pytest.fixture(scope="module")
def scorer(workshop, encoder, task):
    return trained(workshop / "scorer", encoder, task, FIT)


@pytest.fixture(scope="module")
def scorer_onnx(scorer):
    return exported(scorer)


def gold_and_predicted(directory, task):
    examples = open_task(task).split("test")
    found = Predictor(directory).predict([e.text for e in examples], [e.pair for e in examples])
    return [e.score for e in examples], [one.score for one in found]


def test_it_learns_and_a_stored_model_predicts_in_the_task_s_units(scorer, task):
    result = json.loads((scorer / "result.json").read_text())
    assert result["pearson"] > 0.9
    assert result["dev"].keys() == {"pearson", "spearman"}
    gold, predicted = gold_and_predicted(scorer, task)
    assert result["pearson"] == pytest.approx(stats.pearsonr(gold, predicted)[0], abs=1e-5)
    assert result["spearman"] == pytest.approx(stats.spearmanr(gold, predicted)[0], abs=1e-5)
    assert np.abs(np.subtract(gold, predicted)).mean() < 10
    config = json.loads((scorer / "config.json").read_text())
    assert (config["num_labels"], config["problem_type"]) == (1, "regression")


def test_the_exported_graph_gives_the_same_scores(scorer, scorer_onnx, task, capsys):
    dynamic, exported = (gold_and_predicted(d, task)[1] for d in (scorer, scorer_onnx))
    np.testing.assert_allclose(exported, dynamic, atol=1e-3)
    assert main(["predict", str(scorer_onnx), "今晴是很好\t我你"]) == 0
    value, text = capsys.readouterr().out.rstrip("\n").split("\t", 1)
    assert text == "今晴是很好\t我你"
    one = Predictor(scorer_onnx).predict(["今晴是很好"], ["我你"])[0]
    assert float(value) == pytest.approx(one.score, abs=1e-4)


def test_int8_and_the_report_go_by_pearson(workshop, scorer_onnx, task):
    values = {
        "output_dir": workshop / "scorer-int8",
        "model": scorer_onnx,
        "task": task.model_dump(),
        "quantise": {"mode": "static", "batches": 4, "allowed_drop": 5.0},
    }
    int8 = stages.quantise(check(QuantiseRecipe, values, "test"))
    assert json.loads((int8 / "deploy.json").read_text())["dev"]["score"] == "pearson"
    report = stages.report(
        ReportRecipe(
            output_dir=workshop / "scorer-report",
            task=task,
            models={"fp32": scorer_onnx, "int8": int8},
            report=ReportSettings(
                repeats=2, batch_repeats=2, batch_sizes=(1,), threads=(1,), baseline="fp32"
            ),
        )
    )
    content = json.loads((report / "report.json").read_text())
    assert (content["score"], content["majority"]) == ("pearson", None)
    gold, predicted = gold_and_predicted(int8, task)
    assert content["models"][1]["pearson"] == pytest.approx(
        stats.pearsonr(gold, predicted)[0], abs=1e-4
    )
    for row in content["models"]:
        assert row["interval"][0] <= row["pearson"] <= row["interval"][1]
        assert row["interval"][1] - row["interval"][0] < 0.2
    gain = content["gains"]["int8"]
    points = 100 * (content["models"][1]["pearson"] - content["models"][0]["pearson"])
    assert gain["points"] == pytest.approx(points)
    assert "pearson, dev" in (report / "report.html").read_text()


def test_widths_and_a_teacher_work_on_scores(workshop, encoder, scorer, task):
    (half,) = stages.prune(
        PruneRecipe(
            output_dir=workshop / "scorer-pruned",
            classifier=scorer,
            task=task,
            prune=WidthSettings(
                widths=(0.5,), importance_examples=48, fit=FIT.model_copy(update={"epochs": 3.0})
            ),
        )
    )
    assert json.loads((half / "result.json").read_text())["pearson"] > 0.8
    distill = DistillSettings(teacher=scorer, alpha=1.0)  # no label is seen
    taught = trained(workshop / "scorer-taught", encoder, task, FIT, distill=distill)
    assert json.loads((taught / "result.json").read_text())["pearson"] > 0.8


def test_training_for_int8_and_movement_pruning_work_on_scores(scorer, task):
    rounded, sparse = rounded_and_sparse(scorer, task)
    for directory in (rounded, sparse):
        result = json.loads((directory / "result.json").read_text())
        assert result["dev"].keys() == {"pearson", "spearman"} and result["pearson"] > 0.85
        gold, predicted = gold_and_predicted(directory, task)
        assert stats.pearsonr(gold, predicted)[0] == pytest.approx(result["pearson"], abs=0.05)
        assert np.abs(np.subtract(gold, predicted)).mean() < 12  # of 0 to 70
    assert zeros_of(sparse) == pytest.approx(0.5, abs=0.01)


def in_other_units(directory, scorer, task) -> tuple[Path, TaskSettings]:
    """The model and the task with all scores divided by 64."""
    model = classifier.load(shutil.copytree(scorer, directory / "scorer")).model
    linear = model.classifier
    for parameter in (linear.weight, linear.bias):
        parameter.set_value(parameter / 64)
    result = json.loads((scorer / "result.json").read_text())
    classifier.save(model, directory / "scorer", ["score"], scorer, result)
    files = {}
    for split in ("train", "dev", "test"):
        rows = [json.loads(line) for line in getattr(task, split).read_text().splitlines()]
        small = [{**row, "score": row["score"] / 64} for row in rows]
        files[split] = write_jsonl(directory / f"{split}.jsonl", small)
    return directory / "scorer", task.model_copy(update=files)


def products(classifier: Path, task, directory: Path) -> list[Path]:
    """The classifier trained for INT8, made sparse, and made narrower, a few steps each."""
    fit = {"epochs": 0.5, "batch_size": 16, "learning_rate": 3e-3, "dropout": 0.0}
    values = {"classifier": str(classifier), "task": task.model_dump(mode="json")}
    width = {"widths": [0.5], "importance_examples": 48, "fit": fit}
    recipes = [
        check(kind, {**values, "output_dir": str(directory / kind.__name__), **settings}, "test")
        for kind, settings in (
            (QatRecipe, {"qat": fit}),
            (SparseRecipe, {"sparse": {"fit": fit}}),
            (PruneRecipe, {"prune": width}),
        )
    ]
    return [stages.qat(recipes[0]), stages.sparsify(recipes[1]), *stages.prune(recipes[2])]


def test_no_stage_trains_differently_in_other_units(scorer, task, tmp_path):
    other, small_task = in_other_units(tmp_path, scorer, task)
    pairs = zip(
        products(scorer, task, tmp_path / "a"),
        products(other, small_task, tmp_path / "b"),
        strict=True,
    )
    for plain, small in pairs:
        gold, predicted = gold_and_predicted(plain, task)
        _, in_parts = gold_and_predicted(small, small_task)
        assert 64 * np.array(in_parts) == pytest.approx(np.array(predicted), abs=0.05)
        assert np.abs(np.subtract(gold, predicted)).mean() < 12  # of 0 to 70


def test_training_in_standard_deviations_leaves_no_trace_in_the_weights(encoder):
    model = classifier.from_encoder(encoder, 1, "regression")
    model.eval()
    data = EncodedScores([], [], np.array([10.0, 30.0, 80.0], np.float32))
    ids = paddle.to_tensor([[2, 7, 9, 3]])
    plain = float(model(ids, paddle.zeros_like(ids)))
    model.begin(data)
    model.start(data)
    during = float(model(ids, paddle.zeros_like(ids)))
    assert during == pytest.approx(plain * data.labels.std() + 40, rel=1e-5)
    loss = model.loss(
        paddle.to_tensor([[45.0]]), paddle.to_tensor([40.0]), model.loss_weight(data, 0)
    )
    assert float(loss) == pytest.approx(25 / data.labels.var(), rel=1e-5)
    model.finish()
    assert float(model(ids, paddle.zeros_like(ids))) == pytest.approx(during, rel=1e-5)
    assert (model.unit, model.offset) == (1.0, 0.0)
    assert heads.spread_of(np.array([3.0, 3.0])) == 1.0


def test_refusals_name_file_row_and_column(workshop, encoder, task, tmp_path):
    for value, message in (("high", "score 'high' is not"), (None, "no column"), (True, "True")):
        file = write_jsonl(tmp_path / "bad.jsonl", [*scored(1), {**scored(1)[0], "score": value}])
        bad = TaskSettings(name="score_file", label="score", train=file, dev=file)
        with pytest.raises(UserError, match=rf"bad.jsonl, line 2: .*{message}"):
            open_task(bad).split("train")
    file = write_jsonl(tmp_path / "same.jsonl", [scored(1)[0]] * 2)
    with pytest.raises(UserError, match="all scores are equal"):
        open_task(TaskSettings(name="score_file", label="score", train=file, dev=file)).split(
            "train"
        )
    fit = FIT.model_copy(update={"balance_classes": True})
    with pytest.raises(UserError, match="no classes to balance"):
        stages.train(TrainRecipe(output_dir=tmp_path / "x", encoder=encoder, task=task, train=fit))


def test_scores_over_http(scorer_onnx):
    from fastapi.testclient import TestClient

    from finetune.recipes import ServeRecipe
    from finetune.serve.app import create_app

    app = create_app(Predictor(scorer_onnx), ServeRecipe(model=scorer_onnx))
    with TestClient(app) as client:
        answer = client.post("/predict", json={"texts": ["今晴是很好"], "pairs": ["我你"]})
    assert answer.status_code == 200
    (one,) = answer.json()["predictions"]
    assert one == {"score": Predictor(scorer_onnx).predict(["今晴是很好"], ["我你"])[0].score}
