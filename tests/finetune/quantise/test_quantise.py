"""INT8: grids and calibration by their definitions, kernels from the profile, the accuracy gate."""

import json
import shutil

import numpy as np
import paddle
import pytest

from data_pipeline.base import machine
from data_pipeline.base.errors import UserError
from data_pipeline.base.recipes import check
from finetune import stages
from finetune.deploy.backends import open_backend
from finetune.deploy.formats import to_onnx
from finetune.deploy.onnx_graph import Graph
from finetune.quantise import calibration, checks, onnx_int8
from finetune.quantise.qat_scales import trained_ranges
from finetune.recipes import ExportRecipe, QatRecipe, QuantiseRecipe
from finetune.training import classifier

PRODUCTS = 12  # two layers: query, key, value, output, two of the feed-forward


def quantised(directory, model, task, **settings):
    values = {
        "output_dir": directory,
        "model": model,
        "task": task.model_dump(),
        "quantise": {"batches": 4, "batch_size": 8, "allowed_drop": 5.0, **settings},
    }
    return stages.quantise(check(QuantiseRecipe, values, "test"))


@pytest.mark.parametrize(
    "settings",
    [
        {"mode": "dynamic"},
        {"mode": "dynamic", "per_channel": False},
        {"mode": "static", "calibration": "abs_max"},
        {"mode": "static", "calibration": "avg"},
        {"mode": "static", "calibration": "mse"},
        {"mode": "static", "calibration": "mse", "per_channel": False},
        {"mode": "static", "calibration": "hist"},
        {"mode": "static", "calibration": "KL"},
    ],
    ids=lambda s: "-".join(str(value) for value in s.values()),
)
def test_int8_kernels_run_and_accuracy_stays(settings, tmp_path, onnx_dir, task):
    made = quantised(tmp_path / "q", onnx_dir, task, **settings)
    deploy = json.loads((made / "deploy.json").read_text())
    assert sum(deploy["kernels"].values()) == PRODUCTS
    assert set(deploy["kernels"]) <= checks.INT8_KERNELS
    assert deploy["dev"]["int8"] > 0.95
    assert [row["after"] for row in deploy["layer_errors"]] == [
        "embeddings",
        "layer 1 attention",
        "layer 1 feed-forward",
        "layer 2 attention",
        "layer 2 feed-forward",
    ]
    assert all(row["relative_error"] < 0.1 for row in deploy["layer_errors"])


def test_an_fp32_model_is_no_proof(onnx_dir):
    batch = {"input_ids": np.array([[2, 7, 3]]), "token_type_ids": np.zeros((1, 3), np.int64)}
    with pytest.raises(UserError, match="no INT8 kernels"):
        checks.require_int8_kernels(onnx_dir / "model.onnx", batch, PRODUCTS)


def test_too_much_loss_is_refused_with_the_error_by_layer(tmp_path, onnx_dir, task, monkeypatch):
    # a range of a thousandth of what was seen ruins every product
    monkeypatch.setitem(calibration.METHODS, "mse", lambda observed, _: observed.peak * 1e-3)
    with pytest.raises(UserError) as refused:
        quantised(tmp_path / "q", onnx_dir, task, mode="static", calibration="mse")
    assert "loses" in str(refused.value)
    assert "layer 2 feed-forward" in str(refused.value)
    assert not (tmp_path / "q").exists()


def test_int8_is_smaller_than_half(onnx_dir, int8_dir):
    graphs = [Graph(path / "model.onnx") for path in (onnx_dir, int8_dir)]
    names = [
        {onnx_int8_dtype(item) for item in graph.constants.values() if len(item.dims) == 2}
        for graph in graphs
    ]
    assert "int8" not in names[0]
    assert "int8" in names[1]


def onnx_int8_dtype(item) -> str:
    from onnx import numpy_helper

    return str(numpy_helper.to_array(item).dtype)


def test_the_fp32_export_is_fused_and_has_the_same_logits(tmp_path, onnx_dir, static_dir):
    import onnxruntime

    kinds = [node.op_type for node in Graph(onnx_dir / "model.onnx").model.graph.node]
    assert kinds.count("MultiHeadAttention") == 2
    assert "Softmax" not in kinds
    to_onnx(static_dir, tmp_path / "plain.onnx")
    assert "Softmax" in [node.op_type for node in Graph(tmp_path / "plain.onnx").model.graph.node]
    ids = np.array([[2, 7, 8, 9, 3], [2, 9, 3, 0, 0]])
    feed = {"input_ids": ids, "token_type_ids": np.zeros_like(ids)}
    logits = [
        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, feed)
        for path in (onnx_dir / "model.onnx", tmp_path / "plain.onnx")
    ]
    np.testing.assert_allclose(logits[1][0], logits[0][0], atol=1e-5)


def test_int8_of_int8_is_refused(tmp_path, int8_dir, task):
    with pytest.raises(UserError, match="is INT8 already"):
        quantised(tmp_path / "q", int8_dir, task)


@pytest.mark.parametrize(("low", "high"), [(-1.0, 3.0), (0.0, 2.5), (0.5, 2.0), (-4.0, -1.0)])
def test_activation_grid_covers_the_range_and_holds_zero(low, high):
    scale, zero = calibration.activation_grid(low, high)
    ends = (np.array([0, 255]) - float(zero)) * float(scale)
    assert ends[0] <= min(low, 0) + float(scale) / 2
    assert ends[1] >= max(high, 0) - float(scale) / 2
    assert 0 <= zero <= 255


def test_per_channel_weights_are_nearer():
    random = np.random.default_rng(0)
    weight = random.normal(size=(64, 16)) * np.geomspace(0.01, 1, 16)
    errors = []
    for axis in (1, None):
        scale, values = onnx_int8.weight_grid(weight, axis)
        assert values.dtype == np.int8
        errors.append(np.abs(values * scale - weight).mean())
    assert errors[0] < errors[1] / 3


def test_biases_are_added_inside_the_integer_kernels(onnx_dir, int8_dir):
    """And nowhere else: a pass over every product's output would cost more than the sum."""
    fp32, int8 = (Graph(path / "model.onnx") for path in (onnx_dir, int8_dir))
    kernels = [n for n in int8.model.graph.node if n.op_type == "MatMulIntegerToFloat"]
    assert len(kernels) == PRODUCTS
    biases = {node.input[6] for node in kernels}
    assert len(biases) == PRODUCTS
    additions = [
        sum(node.op_type == "Add" for node in graph.model.graph.node) for graph in (fp32, int8)
    ]
    assert additions[0] - additions[1] == PRODUCTS


def test_weights_stay_within_the_peak_asked_for(tmp_path, onnx_dir, task, monkeypatch):
    made = quantised(tmp_path / "small", onnx_dir, task, mode="static", weight_peak=64)
    graph = Graph(made / "model.onnx")
    weights = [
        graph.value(node.input[1])
        for node in graph.model.graph.node
        if node.op_type == "MatMulIntegerToFloat"
    ]
    assert len(weights) == PRODUCTS
    assert {int(np.abs(weight).max()) for weight in weights} == {64}
    assert json.loads((made / "deploy.json").read_text())["weight_peak"] == 64


def test_a_model_whose_sums_would_overflow_here_is_warned_of(tmp_path, onnx_dir, task, monkeypatch):
    made = quantised(tmp_path / "full", onnx_dir, task, mode="static", weight_peak=127)
    monkeypatch.setattr(machine, "cpu_flags", lambda: {"avx2"})
    with pytest.warns(RuntimeWarning, match=r"full: its INT8 weights reach 127.*weight_peak 64"):
        open_backend(made)


def observation(values: np.ndarray, peaks=None) -> calibration.Observation:
    peak = np.abs(values).max()
    counts = np.histogram(values, calibration.BINS, (values.min(), values.max()))[0]
    return calibration.Observation(
        float(values.min()), float(values.max()), peaks or [peak], counts
    )


def squared_error(values, observed, limit):
    """Of the uint8 grid that ONNX Runtime runs, from its definition."""
    scale, zero = calibration.activation_grid(
        max(observed.lowest, -limit), min(observed.highest, limit)
    )
    level = np.clip(np.round(values / scale) + int(zero), 0, 255)
    return float(((values - (level - int(zero)) * scale) ** 2).mean())


def test_the_grid_that_is_deployed_is_scored():
    """After ReLU the grid has 255 steps, not 127: larger values are worth covering."""
    values = np.abs(np.random.default_rng(0).normal(size=50_000))
    values[:5] = 9.0
    observed = observation(values)
    threshold = calibration.mean_squared_error(observed, 0)
    limits = np.linspace(2, 9, 71)
    errors = [squared_error(values, observed, limit) for limit in limits]
    assert squared_error(values, observed, threshold) < 1.02 * min(errors)


def test_calibrations_by_their_definitions():
    random = np.random.default_rng(0)
    values = random.normal(size=100_000)
    values[0] = 40.0  # one outlier
    observed = observation(values, peaks=[40.0, 4.0, 4.0, 4.0])
    assert calibration.abs_max(observed, 0) == 40.0
    assert calibration.average_peak(observed, 0) == 13.0
    assert calibration.histogram_percentile(observed, 99.9) == pytest.approx(
        np.quantile(np.abs(values), 0.999), rel=0.02
    )
    limits = np.linspace(1, 40, 200)
    errors = [squared_error(values, observed, limit) for limit in limits]
    best = limits[int(np.argmin(errors))]
    threshold = calibration.mean_squared_error(observed, 0)
    assert errors[int(np.abs(limits - threshold).argmin())] < 1.2 * min(errors), (threshold, best)
    assert 2.0 < calibration.kl_divergence(observed, 0) < 10.0


def test_a_range_is_never_wider_than_what_was_seen():
    positive = observation(np.abs(np.random.default_rng(0).normal(size=1000)))
    for method in calibration.METHODS:
        low, high = calibration.range_of(positive, method)
        assert low >= 0
        assert high <= positive.highest


def test_trained_scales_reach_the_int8_model(tmp_path, classifier_dir, task):
    values = {
        "output_dir": tmp_path / "qat",
        "classifier": classifier_dir,
        "task": task.model_dump(),
        "qat": {"epochs": 1, "batch_size": 16, "learning_rate": 1e-4, "dropout": 0.0},
    }
    trained = stages.qat(check(QatRecipe, values, "test"))
    exported = stages.export(ExportRecipe(output_dir=tmp_path / "onnx", classifier=trained))
    made = quantised(tmp_path / "int8", exported, task, mode="qat")
    learnt = json.loads((trained / "activation_scales.json").read_text())
    assert len(learnt) == PRODUCTS
    graph = Graph(made / "model.onnx")
    stored = [
        float(graph.value(node.input[1]))
        for node in graph.model.graph.node
        if node.op_type == "QuantizeLinear"
    ]
    found = trained_ranges(Graph(exported / "model.onnx"), exported)
    wanted = [high / 127 for _, high in found.values()]
    np.testing.assert_allclose(sorted(stored), sorted(wanted), rtol=1e-5)
    peaks = {row["abs_max"] for row in learnt}
    assert all(any(abs(high - peak) < 1e-6 for peak in peaks) for _, high in found.values())
    assert json.loads((made / "deploy.json").read_text())["dev"]["int8"] > 0.95


def test_training_with_rounding_is_what_int8_computes(tmp_path, classifier_dir, task):
    """Fake-quantised Paddle and integer ONNX Runtime round to the same grids."""
    from finetune.deploy.backends import OnnxBackend
    from finetune.quantise import qat
    from finetune.quantise.qat_scales import write_scales

    loaded = classifier.load(classifier_dir)
    model = loaded.model
    qat.with_fake_quantisers(model)
    model.train()
    random = np.random.default_rng(0)
    ids = random.integers(5, 35, (8, 9))
    types = np.zeros_like(ids)
    for layer in model.sublayers():
        if isinstance(layer, paddle.nn.Dropout):
            layer.p = 0.0
    for _ in range(30):
        model(paddle.to_tensor(ids), paddle.to_tensor(types))
    model.eval()
    rounded = model(paddle.to_tensor(ids), paddle.to_tensor(types)).numpy()
    plain = classifier.load(classifier_dir).model
    classifier.save(plain, tmp_path / "c", loaded.labels, loaded.tokenizer, loaded.result)
    write_scales(tmp_path / "c", qat.trained_scales(model))
    exported = stages.export(ExportRecipe(output_dir=tmp_path / "onnx", classifier=tmp_path / "c"))
    made = quantised(tmp_path / "int8", exported, task, mode="qat")
    integer = OnnxBackend(made / "model.onnx").logits(ids, types)
    exact = OnnxBackend(exported / "model.onnx").logits(ids, types)
    assert np.abs(integer - rounded).max() < 0.6 * np.abs(exact - rounded).max() + 0.02


def test_qat_mode_wants_trained_scales(tmp_path, onnx_dir, task):
    with pytest.raises(UserError, match=r"activation_scales\.json: missing"):
        quantised(tmp_path / "q", onnx_dir, task, mode="qat")


@pytest.mark.parametrize(
    "content", ["{", "5", "[1]", '[{"weight": "w"}]', '[{"weight": "w", "abs_max": "x"}]']
)
def test_damaged_scales_are_named(content, tmp_path, onnx_dir):
    (tmp_path / "activation_scales.json").write_text(content)
    with pytest.raises(UserError, match=r"activation_scales\.json: must be a list of objects"):
        trained_ranges(Graph(onnx_dir / "model.onnx"), tmp_path)


@pytest.mark.parametrize("batches", [3, 65])
def test_calibration_batches_have_limits(batches, tmp_path, onnx_dir, task):
    with pytest.raises(UserError, match=r"quantise\.batches"):
        quantised(tmp_path / "q", onnx_dir, task, batches=batches)


def test_a_paddle_export_cannot_be_quantised(tmp_path, static_dir, task):
    with pytest.raises(UserError, match=r"no model\.onnx"):
        quantised(tmp_path / "q", static_dir, task)


def test_an_onnx_file_from_elsewhere_is_named(tmp_path, onnx_dir, task):
    from onnx import TensorProto, helper, save

    shutil.copytree(onnx_dir, tmp_path / "m")
    node = helper.make_node("Relu", ["x"], ["y"])
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in ("x", "y")]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    save(model, str(tmp_path / "m" / "model.onnx"))
    with pytest.raises(UserError, match=r"its inputs are \['x'\]"):
        quantised(tmp_path / "q", tmp_path / "m", task)
