"""The report: both splits, and models that do not belong to the task."""

import json
import shutil

import pytest

from data_pipeline.base.errors import UserError
from data_pipeline.base.recipes import check
from finetune import stages
from finetune.deploy.predict import Predictor
from finetune.recipes import PruneRecipe, QuantiseRecipe, ReportRecipe
from finetune.tasks import open_task
from finetune.training.batches import encode


def report_recipe(directory, task, models) -> ReportRecipe:
    quick = {"repeats": 2, "batch_repeats": 1, "batch_sizes": [1], "threads": [1]}
    values = {"output_dir": directory, "task": task.model_dump(), "models": models, "report": quick}
    return check(ReportRecipe, values, "test")


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


def test_a_model_with_other_labels_is_refused_by_every_stage(tmp_path, task, other_labels):
    onnx, classifier = other_labels
    values = {"output_dir": tmp_path / "out", "task": task.model_dump()}
    stages_and_recipes = (
        (stages.report, report_recipe(tmp_path / "out", task, {"m": onnx})),
        (stages.quantise, check(QuantiseRecipe, {**values, "model": onnx}, "test")),
        (stages.prune, check(PruneRecipe, {**values, "classifier": classifier}, "test")),
    )
    for stage, recipe in stages_and_recipes:
        with pytest.raises(UserError, match="labels are not the task's 2: weather, money against"):
            stage(recipe)
