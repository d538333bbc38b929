"""Vectors of texts: pooling against its formula, the export against Paddle, files, refusals."""

import json
from itertools import combinations

import numpy as np
import paddle
import pytest
from scipy import stats

from data_pipeline.base.errors import UserError
from finetune import stages
from finetune.__main__ import main
from finetune.deploy.embed import Embedder
from finetune.deploy.predict import Predictor
from finetune.recipes import ExportRecipe
from finetune.settings import EmbeddingSettings
from pretrain.encoders.load import load_encoder
from tests.finetune.conftest import write_jsonl

TEXTS = ["今晴是很好", "股", "我雨在有和是很不好他", "他在涨了的" * 9]


@pytest.fixture(scope="module", params=["mean", "cls"])
def settings(request):
    return EmbeddingSettings(pooling=request.param, max_length=24)


@pytest.fixture(scope="module")
def exported(workshop, encoder, settings):
    output = workshop / f"embedding-{settings.pooling}"
    return stages.export(ExportRecipe(output_dir=output, encoder=encoder, embedding=settings))


def by_formula(encoder, text, settings):
    """One text by itself, through PaddleNLP's own forward pass."""
    ids = Embedder(encoder, settings).encoder.classify([text], None, settings.max_length)[0]
    with paddle.no_grad():
        states = load_encoder(encoder)(paddle.to_tensor(ids))[0][0].numpy()
    vector = states.mean(0) if settings.pooling == "mean" else states[0]
    return vector / np.linalg.norm(vector)


def test_a_vector_is_the_formula_s_whatever_the_text_s_neighbours(encoder, settings):
    found = Embedder(encoder, settings).embed(TEXTS)
    wanted = [by_formula(encoder, text, settings) for text in TEXTS]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_the_export_gives_the_same_vectors(encoder, exported, settings):
    own, graph = Embedder(encoder, settings).embed(TEXTS), Embedder(exported).embed(TEXTS)
    cosines = (own * graph).sum(1)
    np.testing.assert_allclose(cosines, 1, atol=1e-5)
    assert np.abs(own @ own.T - 1).max() > 0.01  # texts differ, so equality shows something
    deploy = json.loads((exported / "deploy.json").read_text())
    assert (deploy["kind"], deploy["embedding"]["pooling"]) == ("embedding", settings.pooling)


def test_lengths_are_left_when_asked(encoder):
    raw = Embedder(encoder, EmbeddingSettings(normalise=False)).embed(TEXTS)
    unit = Embedder(encoder).embed(TEXTS)
    np.testing.assert_allclose(raw / np.linalg.norm(raw, axis=1, keepdims=True), unit, atol=1e-6)
    assert np.abs(np.linalg.norm(raw, axis=1) - 1).min() > 0.1


def test_a_file_gets_a_row_for_each_line(encoder, exported, tmp_path, capsys):
    lines, output = tmp_path / "lines.txt", tmp_path / "vectors.npy"
    lines.write_text("今晴是很好\n\n股\n", encoding="utf-8")
    assert main(["embed", str(exported), "--input", str(lines), "--output", str(output)]) == 0
    vectors = np.load(output)
    wanted = Embedder(exported).embed(["今晴是很好", "股"])
    np.testing.assert_allclose(vectors[[0, 2]], wanted, atol=1e-6)
    assert vectors.dtype == np.float32 and not vectors[1].any()
    assert "3 vectors of 32" in capsys.readouterr().err
    assert main(["embed", str(encoder), "股", "--pooling", "cls", "--no-normalise"]) == 0
    printed = json.loads(capsys.readouterr().out)
    cls = EmbeddingSettings(pooling="cls", normalise=False)
    np.testing.assert_allclose(printed, Embedder(encoder, cls).embed(["股"])[0], atol=1e-6)


def test_cosines_of_pairs_are_compared_with_scores(exported, tmp_path, capsys):
    rows = [{"a": a, "b": b, "score": n * n} for n, (a, b) in enumerate(combinations(TEXTS, 2))]
    file = write_jsonl(tmp_path / "pairs.jsonl", rows)
    columns = ["--text", "a", "--pair", "b", "--score", "score"]
    assert main(["embed", str(exported), "--input", str(file), *columns]) == 0
    printed = json.loads(capsys.readouterr().out)
    vectors = {text: Embedder(exported).embed([text])[0] for text in TEXTS}
    cosines = [vectors[row["a"]] @ vectors[row["b"]] for row in rows]
    scores = [row["score"] for row in rows]
    assert printed["pairs"] == 6
    assert printed["pearson"] == pytest.approx(stats.pearsonr(cosines, scores)[0], abs=1e-3)
    assert printed["spearman"] == pytest.approx(stats.spearmanr(cosines, scores)[0], abs=1e-3)
    assert main(["embed", str(exported), "--input", str(file), *columns[:4]]) != 0
    assert "--pair and --score go together" in capsys.readouterr().err


def test_refusals_are_one_sentence(encoder, exported, onnx_dir, settings, tmp_path, capsys):
    with pytest.raises(UserError, match="predicts no labels"):
        Predictor(exported)
    with pytest.raises(UserError, match="a model for classification, which gives no vectors"):
        Embedder(onnx_dir)
    with pytest.raises(UserError, match=r"was exported with pooling .* leave the options out"):
        Embedder(exported, settings.model_copy(update={"normalise": False}))
    with pytest.raises(UserError, match="max_length: 200 is more than the 128 positions"):
        Embedder(encoder, EmbeddingSettings(max_length=200))
    for arguments, message in (
        (["--output", "vectors.txt"], "written as .npy"),
        (["--max_length", "3"], "max_length"),
    ):
        assert main(["embed", str(encoder), "股", *arguments]) != 0
        shown = capsys.readouterr().err
        assert message in shown and "Traceback" not in shown
    for values, message in (
        ({}, "one of classifier and encoder"),
        ({"encoder": encoder, "format": "hf"}, "format: hf is for classifiers"),
    ):
        with pytest.raises(ValueError, match=message):
            ExportRecipe(output_dir=tmp_path / "x", **values)
