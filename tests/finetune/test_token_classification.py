"""Token classification through every stage: a tiny encoder learns to find places and amounts."""

import json

import numpy as np
import pytest

from data_pipeline.base.errors import UserError
from data_pipeline.base.recipes import check
from finetune import stages
from finetune.deploy.predict import Predictor
from finetune.recipes import (
    PruneRecipe,
    QuantiseRecipe,
    ReportRecipe,
    TrainRecipe,
)
from finetune.settings import DistillSettings, FitSettings, ReportSettings, WidthSettings
from finetune.tasks import open_task
from finetune.tasks.settings import TaskSettings
from finetune.training import classifier
from finetune.training.kinds import encode_examples
from finetune.training.token_data import pieces
from tests.finetune.conftest import exported, rounded_and_sparse, trained, zeros_of

PLACES, FILLER = ("晴天", "雨", "雪风"), "我你他是不很好坏了的在有和"


def write_bio(path, count: int, offset: int = 0):
    """Sentences of filler with one or two places, which three characters alone begin."""
    lines = []
    for number in range(offset, offset + count):
        words = [FILLER[(number * 7 + i * 5) % len(FILLER)] for i in range(4 + number % 5)]
        tagged = [(word, "O") for word in words]
        for at in (1, 4)[: 1 + number % 2]:
            place = PLACES[(number + at) % 3]
            tagged[at:at] = [(c, f"{'B' if i == 0 else 'I'}-LOC") for i, c in enumerate(place)]
        lines += [f"{token} {label}" for token, label in tagged] + [""]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def task(workshop):
    return TaskSettings(
        name="bio_file",
        train=write_bio(workshop / "train.bio", 192),
        dev=write_bio(workshop / "dev.bio", 48, 1000),
        test=write_bio(workshop / "test.bio", 48, 2000),
    )


@pytest.fixture(scope="module")
def token_dir(workshop, encoder, task):
    fit = FitSettings(epochs=12, batch_size=16, learning_rate=3e-3, dropout=0.0)
    return trained(workshop / "tokens", encoder, task, fit)


@pytest.fixture(scope="module")
def token_onnx(token_dir):
    return exported(token_dir)


def test_it_learns_and_reports_entity_scores(token_dir):
    result = json.loads((token_dir / "result.json").read_text())
    assert result["entity_f1"] > 0.9
    assert result["dev"].keys() == {"entity_f1", "entity_precision", "entity_recall"}
    config = json.loads((token_dir / "config.json").read_text())
    assert config["architectures"] == ["PPMiniLMForTokenClassification"]
    assert config["label2id"] == {"O": 0, "B-LOC": 1, "I-LOC": 2}


def test_a_stored_model_is_the_one_that_was_trained(token_dir, task):
    loaded = classifier.load(token_dir)
    assert loaded.model.kind == "tokens"
    gold = open_task(task).split("test")
    found = Predictor(token_dir).predict([example.text for example in gold])
    hit = sum(
        len(
            {(e.start, e.end, e.label) for e in one.entities}
            & {(s.start, s.end, s.label) for s in x.spans}
        )
        for one, x in zip(found, gold, strict=True)
    )
    predicted, expected = sum(len(f.entities) for f in found), sum(len(x.spans) for x in gold)
    assert loaded.result["entity_f1"] == pytest.approx(2 * hit / (predicted + expected))


def test_a_long_text_has_the_entities_of_its_pieces_in_its_own_places(token_onnx):
    text = "我晴天很好的了不。" * 5 + "他雨是不很在我"
    predictor = Predictor(token_onnx)
    (found,) = predictor.predict([text])
    alone, start = [], 0
    for piece in pieces(text, predictor.max_length - 2):
        (one,) = predictor.predict([piece])
        alone += [(start + entity.start, start + entity.end) for entity in one.entities]
        start += len(piece)
    assert start == len(text) > 2 * predictor.max_length
    assert [(entity.start, entity.end) for entity in found.entities] == alone
    assert found.entities[0].text == "晴天"
    for entity in found.entities:
        assert text[entity.start : entity.end] == entity.text
        assert 0.3 < entity.probability <= 1
    first = found.entities[0]
    assert str(found).startswith(f"LOC:晴天[{first.start}:{first.end}] LOC:")


def test_the_exported_graph_gives_the_same_logits(token_dir, token_onnx):
    texts = ["我在晴天很好", "雨"]
    dynamic, exported = (Predictor(d).logits(texts) for d in (token_dir, token_onnx))
    for a, b in zip(dynamic, exported, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, atol=1e-4)
    assert json.loads((token_onnx / "deploy.json").read_text())["kind"] == "tokens"


def test_int8_is_judged_by_entity_f1_and_stands_in_the_report(workshop, token_onnx, task):
    values = {
        "output_dir": workshop / "tokens-int8",
        "model": token_onnx,
        "task": task.model_dump(),
        "quantise": {"mode": "static", "batches": 4, "allowed_drop": 10.0},
    }
    int8 = stages.quantise(check(QuantiseRecipe, values, "test"))
    dev = json.loads((int8 / "deploy.json").read_text())["dev"]
    expected = Predictor(int8)
    opened = open_task(task)
    data = encode_examples(opened, expected.encoder, opened.split("dev"), expected.max_length)
    assert dev["int8"] == data.scores(expected.encoded_logits(data))["entity_f1"]
    report = stages.report(
        ReportRecipe(
            output_dir=workshop / "tokens-report",
            task=task,
            models={"fp32": token_onnx, "int8": int8},
            report=ReportSettings(repeats=2, batch_repeats=2, batch_sizes=(1,), threads=(1,)),
        )
    )
    content = json.loads((report / "report.json").read_text())
    assert (content["score"], content["split"]) == ("entity_f1", "test")
    assert all(row["entity_f1"] > 0.8 for row in content["models"])
    assert "entity f1, dev" in (report / "report.html").read_text()


def test_widths_and_a_teacher_work_on_tokens(workshop, encoder, token_dir, task):
    fit = FitSettings(epochs=4, batch_size=16, learning_rate=3e-3, dropout=0.0)
    (half,) = stages.prune(
        PruneRecipe(
            output_dir=workshop / "tokens-pruned",
            classifier=token_dir,
            task=task,
            prune=WidthSettings(widths=(0.5,), importance_examples=48, fit=fit),
        )
    )
    result = json.loads((half / "result.json").read_text())
    assert result["entity_f1"] > 0.8
    assert classifier.load(half).model.layers[0].self_attn.num_heads == 2
    distill = DistillSettings(teacher=token_dir, alpha=1.0)  # no label is seen
    taught = trained(workshop / "tokens-taught", encoder, task, fit, distill=distill)
    assert json.loads((taught / "result.json").read_text())["entity_f1"] > 0.8


def test_training_for_int8_and_movement_pruning_work_on_tokens(token_dir, task):
    rounded, sparse = rounded_and_sparse(token_dir, task)
    for directory in (rounded, sparse):
        result = json.loads((directory / "result.json").read_text())
        assert result["dev"].keys() == {"entity_f1", "entity_precision", "entity_recall"}
        assert result["entity_f1"] > 0.85
        (entities,) = Predictor(directory).predict(["我晴天你他是不"])
        assert [(e.start, e.end, e.label) for e in entities.entities] == [(1, 3, "LOC")]
    assert zeros_of(sparse) == pytest.approx(0.5, abs=0.01)


def test_pairs_other_tasks_and_other_scores_are_refused(
    workshop, token_onnx, token_dir, task, encoder
):
    predictor = Predictor(token_onnx)
    with pytest.raises(UserError, match="single texts, not in pairs"):
        predictor.predict(["我"], ["你"])
    other = write_bio(workshop / "other.bio", 4)
    other.write_text(other.read_text().replace("LOC", "PER"))
    people = TaskSettings(name="bio_file", train=other, dev=other)
    with pytest.raises(UserError, match="labels are not the task's"):
        stages.report(
            ReportRecipe(output_dir=workshop / "no", task=people, models={"a": token_onnx})
        )
    fit = FitSettings(choose_by="macro_f1", epochs=1)
    with pytest.raises(UserError, match="'macro_f1' is not a score of this kind of task; one of"):
        stages.train(TrainRecipe(output_dir=workshop / "no", encoder=encoder, task=task, train=fit))


def test_entities_over_http(token_onnx):
    from fastapi.testclient import TestClient

    from finetune.recipes import ServeRecipe
    from finetune.serve.app import create_app

    app = create_app(Predictor(token_onnx), ServeRecipe(model=token_onnx))
    with TestClient(app) as client:
        answer = client.post("/predict", json={"texts": ["我晴天很好了的"]})
    assert answer.status_code == 200
    (entity,) = answer.json()["predictions"][0]["entities"]
    assert (entity["text"], entity["label"], entity["start"]) == ("晴天", "LOC", 1)
