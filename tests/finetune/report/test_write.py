"""The report: both splits, and models that do not belong to the task."""

import json
import shutil

import numpy as np
import onnx
import pytest
from sklearn.metrics import f1_score

from data_pipeline.base.errors import UserError
from data_pipeline.base.recipes import check
from finetune import stages
from finetune.deploy.predict import Predictor
from finetune.recipes import PruneRecipe, QuantiseRecipe, ReportRecipe, TrainRecipe
from finetune.tasks import open_task
from finetune.training.batches import encode


def report_recipe(directory, task, models, baseline=None, **more) -> ReportRecipe:
    quick = {"repeats": 2, "batch_repeats": 1, "batch_sizes": [1], "threads": [1]}
    report = quick | {"baseline": baseline}
    values = {"output_dir": directory, "task": task.model_dump(), "models": models}
    return check(ReportRecipe, values | {"report": report} | more, "test")


def test_dev_and_test_are_measured_each_on_its_own_examples(tmp_path, onnx_dir, task):
    directory = stages.report(report_recipe(tmp_path / "r", task, {"m": onnx_dir}))
    (row,) = json.loads((directory / "report.json").read_text())["models"]
    predictor = Predictor(onnx_dir)
    for split, scores in (("dev", row["dev"]), ("test", row)):
        examples = open_task(task).split(split)
        data = encode(predictor.encoder, examples, predictor.max_length)
        expected = data.scores(predictor.encoded_logits(data))
        assert {name: scores[name] for name in expected} == expected


@pytest.fixture
def weak_model(tmp_path, onnx_dir):
    """A model that hardly ever gives the second label."""
    shutil.copytree(onnx_dir, tmp_path / "weak")
    model = onnx.load(str(onnx_dir / "model.onnx"))
    output = model.graph.output[0].name
    (last,) = [node for node in model.graph.node if output in node.output]
    last.output[list(last.output).index(output)] = "before"
    shift = onnx.numpy_helper.from_array(np.array([2.5, 0], np.float32), "shift")
    model.graph.initializer.append(shift)
    model.graph.node.append(onnx.helper.make_node("Add", ["before", "shift"], [output]))
    onnx.save(model, str(tmp_path / "weak" / "model.onnx"))
    return tmp_path / "weak"


def test_intervals_and_gains_are_those_of_the_score_that_is_asked_for(
    tmp_path, onnx_dir, weak_model, task
):
    models = {"good": onnx_dir, "weak": weak_model}
    recipe = report_recipe(tmp_path / "r", task, models, "weak", choose_by="macro_f1")
    report = json.loads((stages.report(recipe) / "report.json").read_text())
    gold = np.array([example.label for example in open_task(task).split("test")])
    predicted = {}
    for name, path in models.items():
        predictor = Predictor(path)
        data = predictor.encode_examples(open_task(task).split("test"))
        predicted[name] = predictor.encoded_logits(data).argmax(-1)
    random = np.random.default_rng(3)
    draws = random.integers(0, len(gold), (1000, len(gold)))
    samples = {
        name: np.array([f1_of(gold[rows], values[rows]) for rows in draws])
        for name, values in predicted.items()
    }
    assert report["score"] == "macro_f1"
    for row in report["models"]:
        limits = np.percentile(samples[row["name"]], (2.5, 97.5))
        assert row["interval"] == pytest.approx(limits, abs=0.02)
        assert row["macro_f1"] == pytest.approx(f1_of(gold, predicted[row["name"]]))
    gain = report["gains"]["good"]
    wanted = 100 * (f1_of(gold, predicted["good"]) - f1_of(gold, predicted["weak"]))
    assert gain["points"] == pytest.approx(wanted)
    limits = 100 * np.percentile(samples["good"] - samples["weak"], (2.5, 97.5))
    assert (gain["low"], gain["high"]) == pytest.approx(tuple(limits), abs=2)
    assert f"good is {wanted:.1f} points of macro_f1 above weak on" in report["in_words"]["good"]
    page = (recipe.output_dir / "report.html").read_text()
    assert "95% interval of macro f1" in page and "points of macro_f1 above weak" in page


def f1_of(gold, predicted) -> float:
    return f1_score(gold, predicted, average="macro")


def test_a_score_of_another_kind_of_task_is_refused(tmp_path, onnx_dir, task):
    recipe = report_recipe(tmp_path / "r", task, {"m": onnx_dir}, choose_by="pearson")
    with pytest.raises(UserError, match="choose_by: 'pearson' is not a score of this kind"):
        stages.report(recipe)


def test_scores_on_test_are_never_shown_as_those_on_dev(tmp_path, onnx_dir, task):
    without = task.model_copy(update={"dev": None})
    with pytest.raises(UserError, match="no labelled dev examples"):
        stages.report(report_recipe(tmp_path / "r", without, {"m": onnx_dir}))


@pytest.mark.parametrize("name", ["parameters", "precision"])
def test_what_deploy_json_lacks_is_named(name, tmp_path, onnx_dir, task):
    shutil.copytree(onnx_dir, tmp_path / "m")
    path = tmp_path / "m" / "deploy.json"
    deploy = json.loads(path.read_text())
    del deploy[name]
    path.write_text(json.dumps(deploy))
    with pytest.raises(UserError, match=rf"deploy\.json: no field '{name}'"):
        stages.report(report_recipe(tmp_path / "r", task, {"m": tmp_path / "m"}))


@pytest.fixture
def other_labels(tmp_path, onnx_dir, classifier_dir):
    """The models of the session with the names of their labels in another order."""
    directories = []
    for source in (onnx_dir, classifier_dir):
        directory = tmp_path / source.name
        shutil.copytree(source, directory)
        labels = json.loads((directory / "labels.json").read_text())
        (directory / "labels.json").write_text(json.dumps(labels[::-1]))
        directories.append(directory)
    return directories


def refusals(directory, task, onnx, classifier) -> list[str]:
    """What report, quantise, prune and a student's training say of a model and a task."""
    values = {"output_dir": directory, "task": task.model_dump()}
    taught = {"encoder": classifier, "distill": {"teacher": classifier}}
    stages_and_recipes = (
        (stages.report, report_recipe(directory, task, {"m": onnx})),
        (stages.quantise, check(QuantiseRecipe, {**values, "model": onnx}, "test")),
        (stages.prune, check(PruneRecipe, {**values, "classifier": classifier}, "test")),
        (stages.train, check(TrainRecipe, values | taught, "test")),
    )
    said = []
    for stage, recipe in stages_and_recipes:
        with pytest.raises(UserError) as refused:
            stage(recipe)
        said.append(str(refused.value))
    return said


def test_a_model_with_other_labels_is_refused_by_every_stage(tmp_path, task, other_labels):
    for said in refusals(tmp_path / "out", task, *other_labels):
        assert "labels are not the task's 2: weather, money against" in said


def test_a_model_of_another_kind_is_refused_by_every_stage(
    tmp_path, task, onnx_dir, classifier_dir
):
    several = task.model_copy(update={"name": "multi_label_file"})
    assert open_task(several).labels == open_task(task).labels
    for said in refusals(tmp_path / "out", several, onnx_dir, classifier_dir):
        assert "a model of kind 'classification', the task's is 'multi_label'" in said
