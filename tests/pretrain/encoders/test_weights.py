"""Weights on disk: whole, damaged, foreign, missing."""

import json
import os

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paddle import nn
from safetensors.numpy import save

from data_pipeline.base.errors import UserError
from pretrain.encoders import weights


@pytest.fixture
def stored(tmp_path):
    """A file of a layer's weights, and the layer."""
    layer = nn.Linear(3, 2)
    weights.write(tmp_path / "model.safetensors", layer.state_dict())
    return tmp_path / "model.safetensors", layer


def test_what_is_written_is_read_and_fits_back(stored):
    path, layer = stored
    other = nn.Linear(3, 2)
    weights.load_into(other, weights.read(path), "here")
    for name, value in layer.state_dict().items():
        assert (other.state_dict()[name].numpy() == value.numpy()).all()


def test_a_directory_is_read_like_its_file(stored):
    path, _ = stored
    one, other = weights.read(path), weights.read(path.parent)
    assert {n: v.tolist() for n, v in one.items()} == {n: v.tolist() for n, v in other.items()}


def test_bfloat16_is_widened_exactly(tmp_path):
    import ml_dtypes

    values = np.array([[1.5, -2.0, 3.0078125, 1e-30]], ml_dtypes.bfloat16)
    (tmp_path / "model.safetensors").write_bytes(save({"x": values}))
    actual = weights.read(tmp_path)["x"]
    assert actual.dtype == np.float32
    assert (actual == values.astype(np.float32)).all()


def test_other_numbers_and_bools_are_read(tmp_path):
    tensors = {
        str(kind): np.ones([2, 1], kind)
        for kind in ("float16", "float64", "int64", "uint8", "bool")
    }
    (tmp_path / "x.safetensors").write_bytes(save(tensors))
    for kind, actual in weights.read(tmp_path / "x.safetensors").items():
        assert actual.dtype == kind
        assert actual.shape == (2, 1)


def test_half_precision_goes_into_a_layer_of_float32(stored):
    path, layer = stored
    halves = {n: v.astype(np.float16) for n, v in weights.read(path).items()}
    weights.load_into(layer, halves, "here")
    assert layer.weight.dtype == paddle.float32
    assert (layer.weight.numpy() == halves["weight"].astype(np.float32)).all()


def test_a_kind_of_number_that_is_not_known_is_named(tmp_path):
    header = json.dumps({"x": {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0")
    with pytest.raises(UserError, match=r"x is F8_E4M3; read are F64, F32"):
        weights.read(path)


def test_a_layer_in_bfloat16_is_written_and_read_back(tmp_path):
    layer, other = nn.Linear(3, 2).to(dtype="bfloat16"), nn.Linear(3, 2).to(dtype="bfloat16")
    weights.write(tmp_path / "model.safetensors", layer.state_dict())
    weights.load_into(other, weights.read(tmp_path), "here")
    assert other.weight.dtype == paddle.bfloat16
    assert (other.weight == layer.weight).all()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_file_is_an_error_for_people_or_still_has_its_names(tmp_path_factory, data):
    good = save({"weight": np.ones([3, 2], np.float32), "bias": np.ones(2, np.float32)})
    cut = data.draw(st.integers(0, len(good)))
    damaged = bytearray(good[:cut] if data.draw(st.booleans()) else good)
    for _ in range(data.draw(st.integers(0, 3))):
        if damaged:
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "model.safetensors"
    path.write_bytes(damaged)
    layer = nn.Linear(3, 2)
    try:
        weights.load_into(layer, weights.read(path), "here")
    except UserError as error:
        assert str(path) in str(error) or "here" in str(error)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("bias"), "missing: bias"),
        (lambda t: t.update(scale=t["bias"]), "not part of the model: scale"),
        (lambda t: t.update(weight=t["weight"].T), r"weight \[2, 3\] for \[3, 2\]"),
        (
            lambda t: t.update({f"x{i}": t["bias"] for i in range(8)}),
            "x0, x1, x2, x3, x4 and 3 more",
        ),
    ],
)
def test_what_does_not_fit_is_named(stored, change, message):
    path, layer = stored
    before = layer.weight.numpy().copy()
    tensors = weights.read(path)
    change(tensors)
    with pytest.raises(UserError, match=message) as caught:
        weights.load_into(layer, tensors, "here")
    assert str(caught.value).startswith("here: ")
    assert (layer.weight.numpy() == before).all()


def test_all_that_does_not_fit_is_named_at_once(stored):
    path, layer = stored
    tensors = weights.read(path)
    tensors = {"weight": tensors["weight"].T, "other": tensors["bias"]}
    with pytest.raises(UserError) as caught:
        weights.load_into(layer, tensors, "here")
    for message in ("missing: bias", "not part of the model: other", "of another shape: weight"):
        assert message in str(caught.value)


def test_nothing_there_and_not_safetensors(tmp_path):
    with pytest.raises(UserError, match=r"no model\.safetensors"):
        weights.read(tmp_path)
    with pytest.raises(UserError, match="not safetensors"):
        weights.read(tmp_path / "model_state.pdparams")
    with pytest.raises(UserError, match=r"gone\.safetensors"):
        weights.read(tmp_path / "gone.safetensors")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UserError, match=r"only pytorch_model\.bin, which is a pickle"):
        weights.read(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "unreadable"),
        ("[]", "unreadable"),
        ('{"weight_map": 3}', "unreadable"),
        ('{"weight_map": {"x": "../../secret.safetensors"}}', "not a file in the same directory"),
        ('{"weight_map": {"x": "/etc/passwd"}}', "not a file in the same directory"),
        ('{"weight_map": {"x": 3}}', "not a file in the same directory"),
        ('{"weight_map": {"x": "a.safetensors"}}', "which is not there"),
    ],
)
def test_a_bad_index_is_named(tmp_path, text, message):
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(UserError, match=message):
        weights.read(tmp_path)


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_the_file_has_the_mode_that_the_umask_gives(tmp_path, umask):
    previous = os.umask(umask)
    try:
        weights.write(tmp_path / "model.safetensors", {"a": np.zeros(3, np.float32)})
    finally:
        os.umask(previous)
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o777 == 0o666 & ~umask


def test_an_interrupted_write_leaves_the_old_file(stored, monkeypatch):
    path, _ = stored
    before = path.read_bytes()
    monkeypatch.setattr("data_pipeline.base.files.sync", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        weights.write(path, {"weight": np.zeros(3)})
    assert path.read_bytes() == before
    assert [item.name for item in path.parent.iterdir()] == [path.name]
