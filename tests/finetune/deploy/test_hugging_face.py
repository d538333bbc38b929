"""A classifier for transformers gives the same logits, here and there."""

import json

import numpy as np
import paddle
import pytest

from data_pipeline.base.errors import UserError
from finetune import stages
from finetune.deploy.predict import Predictor
from finetune.recipes import ExportRecipe
from finetune.training import classifier
from tests import with_transformers

IDS = np.array([[2, 7, 9, 30, 3, 0, 0], [2, 8, 31, 11, 12, 13, 3]])
TEXTS = ["今日晴", "股票跌了", "你好"]


def logits(model):
    model.eval()
    ids = paddle.to_tensor(IDS)
    return model(ids, paddle.zeros_like(ids)).numpy()


@pytest.fixture(scope="module")
def hf_dir(classifier_dir, tmp_path_factory):
    output = tmp_path_factory.mktemp("hf") / "model"
    return stages.export(ExportRecipe(output_dir=output, classifier=classifier_dir, format="hf"))


def test_it_is_read_back_bit_for_bit(classifier_dir, hf_dir):
    own, again = classifier.load(classifier_dir), classifier.load(hf_dir)
    assert again.labels == own.labels
    assert again.result["max_length"] == own.result["max_length"]
    assert (logits(again.model) == logits(own.model)).all()
    config = json.loads((hf_dir / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert config["id2label"] == {str(i): label for i, label in enumerate(own.labels)}
    assert Predictor(hf_dir).predict(TEXTS) == Predictor(classifier_dir).predict(TEXTS)


def test_a_directory_of_transformers_alone_is_read_and_exported(hf_dir, tmp_path):
    """Without the files that only this project writes."""
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (foreign / name).write_bytes((hf_dir / name).read_bytes())
    predictor = Predictor(foreign)
    assert (predictor.labels, predictor.max_length) == (["money", "weather"], 16)
    expected = Predictor(hf_dir).predict(TEXTS)
    assert predictor.predict(TEXTS) == expected
    onnx = stages.export(ExportRecipe(output_dir=tmp_path / "onnx", classifier=foreign))
    got = Predictor(onnx).logits(TEXTS)
    np.testing.assert_allclose(got, Predictor(hf_dir).logits(TEXTS), atol=1e-4)


def test_a_head_of_another_kind_is_named(hf_dir, tmp_path):
    from pretrain.encoders import weights

    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((hf_dir / name).read_bytes())
    tensors = weights.read(hf_dir)
    tensors["classifier.dense.weight"] = tensors.pop("classifier.weight")
    weights.write(tmp_path / "model.safetensors", tensors)
    with pytest.raises(UserError, match=r"missing: classifier\.weight"):
        classifier.load(tmp_path)


def test_token_classifiers_too(new_encoder, tmp_path):
    encoder = new_encoder(tmp_path / "encoder", "BertModel")
    model = classifier.from_encoder(encoder, 3, "tokens")
    classifier.save(model, tmp_path / "own", ["O", "B-x", "I-x"], encoder, {"max_length": 20})
    output = stages.export(
        ExportRecipe(output_dir=tmp_path / "hf", classifier=tmp_path / "own", format="hf")
    )
    again = classifier.load(output)
    assert again.model.kind == "tokens" and again.labels == ["O", "B-x", "I-x"]
    assert (logits(again.model) == logits(model)).all()
    config = json.loads((output / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["BertForTokenClassification"]


def test_a_pruned_classifier_is_refused_with_the_reason(new_encoder, tmp_path):
    encoder = new_encoder(tmp_path / "encoder")
    model = classifier.from_encoder(encoder, 2)
    classifier.resize(model, [3, 4], [64, 64])
    classifier.save(model, tmp_path / "own", ["a", "b"], encoder, {})
    with pytest.raises(UserError, match=r"layer 1 has 3 heads .* cannot express a pruned encoder"):
        stages.export(
            ExportRecipe(output_dir=tmp_path / "hf", classifier=tmp_path / "own", format="hf")
        )


def test_an_encoder_without_a_pooler_makes_no_classifier(tmp_path):
    from tests.pretrain import foreign

    tensors = foreign.electra_tensors(foreign.WIDTH)
    settings = {"model_type": "electra", "embedding_size": foreign.WIDTH}
    foreign.write(tmp_path, tensors, architectures=["ElectraForPreTraining"], **settings)
    with pytest.raises(UserError, match="ElectraModel has no pooler"):
        classifier.from_encoder(tmp_path, 2)


SCRIPT = """
import json, sys
import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline
directory, inputs, output, answers = sys.argv[1:]
ids = torch.tensor(np.load(inputs))
model = AutoModelForSequenceClassification.from_pretrained(directory).eval()
with torch.no_grad():
    logits = model(input_ids=ids, attention_mask=(ids != 0).long()).logits.numpy()
np.save(output, logits)
classify = pipeline("text-classification", model=model, device="cpu",
                    tokenizer=AutoTokenizer.from_pretrained(directory))
json.dump(classify(%r), open(answers, "w"))
"""


@with_transformers.needed
def test_transformers_gives_the_same_logits_and_labels(hf_dir, tmp_path):
    np.save(tmp_path / "in.npy", IDS)
    files = [tmp_path / name for name in ("in.npy", "out.npy", "answers.json")]
    with_transformers.run(SCRIPT % TEXTS, hf_dir, *files)
    expected = logits(classifier.load(hf_dir).model)
    np.testing.assert_allclose(np.load(files[1]), expected, atol=1e-5)
    for answer, own in zip(
        json.loads(files[2].read_text()), Predictor(hf_dir).predict(TEXTS), strict=True
    ):
        assert answer["label"] == own.label
        assert answer["score"] == pytest.approx(own.probability, abs=1e-5)
