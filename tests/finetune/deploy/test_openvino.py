"""OpenVINO runs the ONNX files of this project: the same logits, INT8 in integers, any length."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.base.errors import UserError
from data_pipeline.base.openvino_cpu import has_bfloat16
from data_pipeline.base.recipes import check
from finetune import stages
from finetune.deploy import backend_openvino
from finetune.deploy.backend_openvino import OpenVinoBackend, padded_length
from finetune.deploy.backends import open_backend
from finetune.deploy.predict import Predictor
from finetune.recipes import CompressRecipe, ExportRecipe, QuantiseRecipe
from finetune.settings import InferenceSettings

IDS = np.array([[2, 7, 18, 9, 3], [2, 9, 3, 0, 0]])


@pytest.fixture(scope="module")
def exported(workshop, classifier_dir):
    recipe = ExportRecipe(
        output_dir=workshop / "openvino",
        classifier=classifier_dir,
        inference=InferenceSettings(runtime="openvino"),
    )
    return stages.export(recipe)


@pytest.fixture(scope="module")
def quantised(workshop, exported, task):
    values = {
        "output_dir": workshop / "openvino-int8",
        "model": exported,
        "task": task.model_dump(),
        "quantise": {"mode": "static", "batches": 4, "allowed_drop": 5.0},
    }
    return stages.quantise(check(QuantiseRecipe, values, "test"))


def logits(directory, ids=IDS):
    return open_backend(directory).logits(ids, np.zeros_like(ids))


def test_an_export_runs_in_openvino_with_the_same_logits(exported, onnx_dir):
    assert type(open_backend(exported)) is OpenVinoBackend
    np.testing.assert_allclose(logits(exported), logits(onnx_dir), atol=1e-5)


def test_int8_products_are_computed_in_integers(quantised):
    """Two layers of six products."""
    deploy = json.loads((quantised / "deploy.json").read_text())
    assert deploy["backend"] == "openvino"
    assert deploy["kernels"] == {"FullyConnected": 12}
    assert deploy["dev"]["int8"] > 0.95


def test_both_runtimes_compute_the_same_int8_model(quantised, tmp_path):
    """The grids are the file's: float32 sums differ in their last bits, which may move a value to
    the next of 256 steps."""
    shutil.copytree(quantised, tmp_path / "m")
    path = tmp_path / "m" / "deploy.json"
    deploy = json.loads(path.read_text()) | {"backend": "onnxruntime"}
    path.write_text(json.dumps(deploy | {"inference": {}}))
    np.testing.assert_allclose(logits(tmp_path / "m"), logits(quantised), atol=0.05)


def test_dynamic_ranges_have_no_integer_kernels_there(tmp_path, exported, task):
    values = {
        "output_dir": tmp_path / "q",
        "model": exported,
        "task": task.model_dump(),
        "quantise": {"mode": "dynamic", "batches": 4},
    }
    with pytest.raises(UserError, match=r"openvino runs .*it has none for mode: dynamic"):
        stages.quantise(check(QuantiseRecipe, values, "test"))


@given(st.integers(1, 600), st.one_of(st.none(), st.integers(4, 512)))
def test_lengths_are_multiples_of_the_step_where_the_model_has_room(length, longest):
    padded = padded_length(length, longest)
    assert length <= padded < length + backend_openvino.LENGTH_STEP
    if longest is None or padded < longest:
        assert padded == length or padded % backend_openvino.LENGTH_STEP == 0
    if longest is not None and length <= longest:
        assert padded <= longest


def test_padding_reaches_no_logit(exported):
    """A batch of 5 tokens is computed with 8."""
    alone = logits(exported, np.pad(IDS, ((0, 0), (0, 3))))
    np.testing.assert_allclose(logits(exported), alone, atol=1e-6)


def test_a_model_for_tokens_answers_for_the_tokens_that_it_was_given():
    backend = OpenVinoBackend.__new__(OpenVinoBackend)
    backend.max_length, backend.turn = None, backend_openvino.threading.Lock()
    backend.model = lambda feed: [np.repeat(feed["input_ids"][..., None], 3, axis=2)]
    out = backend.logits(IDS, np.zeros_like(IDS))
    assert (out == IDS[..., None]).all() and out.shape == (2, 5, 3)


def test_calls_from_several_threads_take_turns(exported):
    backend = open_backend(exported)
    rows = [np.array([[2, 5 + number, 3]]) for number in range(8)]
    expected = [backend.logits(ids, np.zeros_like(ids)) for ids in rows]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda ids: backend.logits(ids, np.zeros_like(ids)), rows * 10))
    for number, result in enumerate(results):
        np.testing.assert_allclose(result, expected[number % 8], atol=1e-6)


def test_bfloat16_is_near_where_the_processor_has_it(workshop, classifier_dir, onnx_dir):
    recipe = ExportRecipe(
        output_dir=workshop / "openvino-bfloat16",
        classifier=classifier_dir,
        inference=InferenceSettings(runtime="openvino", bfloat16=True),
        check_tolerance=0.5,
    )
    near = logits(stages.export(recipe))
    difference = abs(near - logits(onnx_dir)).max()
    assert difference < 0.3
    assert not has_bfloat16() or difference > 1e-5  # not float32


def test_a_processor_without_bfloat16_computes_in_float32(onnx_dir, monkeypatch):
    monkeypatch.setattr(backend_openvino, "has_bfloat16", lambda: False)
    backend = OpenVinoBackend(onnx_dir / "model.onnx", bfloat16=True)
    np.testing.assert_allclose(backend.logits(IDS, np.zeros_like(IDS)), logits(onnx_dir), atol=1e-5)


@pytest.mark.parametrize(
    ("inference", "form", "message"),
    [
        ({"runtime": "openvino"}, "paddle", "format: paddle is run by paddle_inference, not open"),
        ({"runtime": "onnxruntime"}, "hf", "format: hf is run by dynamic, not onnxruntime"),
        ({"runtime": "openvino", "device": "gpu"}, "onnx", "openvino is for device: cpu"),
        (
            {"runtime": "onnxruntime", "bfloat16": True},
            "onnx",
            "bfloat16 is for format: paddle, or",
        ),
        ({"runtime": "tvm"}, "onnx", "'onnxruntime' or 'openvino'"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(inference, form, message, tmp_path):
    values = {"output_dir": tmp_path, "classifier": tmp_path, "format": form}
    with pytest.raises(UserError, match=message):
        check(ExportRecipe, values | {"inference": inference}, "test")


def test_compress_refuses_what_export_would(tmp_path, task):
    values = {"output_dir": tmp_path, "student": tmp_path, "task": task.model_dump()}
    with pytest.raises(UserError, match=r"inference\.bfloat16 is for format: paddle"):
        check(CompressRecipe, values | {"inference": {"bfloat16": True}}, "test")


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "cannot open it"), (b"no graph", "cannot open it")]
)
def test_a_damaged_file_is_one_sentence(exported, tmp_path, content, message):
    shutil.copytree(exported, tmp_path / "m")
    (tmp_path / "m" / "model.onnx").write_bytes(content)
    with pytest.raises(UserError, match=message):
        open_backend(tmp_path / "m")
    (tmp_path / "m" / "model.onnx").unlink()
    with pytest.raises(UserError, match="no such ONNX file"):
        Predictor(tmp_path / "m")


def test_a_graph_with_other_inputs_is_refused(exported, tmp_path):
    import onnx

    model = onnx.load(str(exported / "model.onnx"))
    for node in model.graph.node:
        for number, name in enumerate(node.input):
            if name == "token_type_ids":
                node.input[number] = "segments"
    for item in model.graph.input:
        if item.name == "token_type_ids":
            item.name = "segments"
    onnx.save(model, str(tmp_path / "model.onnx"))
    with pytest.raises(UserError, match=r"its inputs are \['input_ids', 'segments'\]"):
        OpenVinoBackend(tmp_path / "model.onnx")
