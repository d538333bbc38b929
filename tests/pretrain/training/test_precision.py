"""Loss scale, autocast, and what is asked of the device."""

import paddle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.base.errors import UserError
from pretrain.encoders import device
from pretrain.training import precision
from pretrain.training.precision import LossScale
from pretrain.training.settings import Precision


@pytest.fixture
def gpu(monkeypatch):
    """As if tensors were made on a GPU; the list of values that its TF32 switch was set to."""
    switched = []
    monkeypatch.setattr(device, "on_gpu", lambda: True)
    monkeypatch.setattr(paddle.base.core, "set_cublas_switch", switched.append, raising=False)
    monkeypatch.setattr(device, "has_bfloat16", lambda: True)
    return switched


@pytest.mark.parametrize("allowed", [False, True])
def test_tf32_is_what_the_recipe_says_and_off_by_default(gpu, allowed):
    precision.configure(Precision(tf32=allowed))
    precision.configure(Precision())
    assert gpu == [allowed, False]


def test_a_cpu_has_no_tf32_to_switch():
    precision.configure(Precision(dtype="bfloat16"))  # said elsewhere: it runs float32


def test_bfloat16_on_a_gpu_without_it_is_an_error(gpu, monkeypatch):
    precision.configure(Precision(dtype="bfloat16"))
    monkeypatch.setattr(device, "has_bfloat16", lambda: False)
    with pytest.raises(UserError, match=r"precision.dtype: .* use float16 or float32"):
        precision.configure(Precision(dtype="bfloat16"))
    precision.configure(Precision(dtype="float16"))


def test_a_gpu_build_on_a_cpu_runs_float32(monkeypatch):
    monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: True)
    assert precision.effective_dtype(Precision(dtype="float16")) == "float32"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_white_list_is_the_published_one(gpu, monkeypatch, dtype):
    calls = []
    monkeypatch.setattr(paddle.amp, "auto_cast", lambda **settings: calls.append(settings))
    precision.autocast(Precision(dtype=dtype))
    white_list = ("layer_norm", "gelu", "softmax")
    assert calls == [{"dtype": dtype, "level": "O1", "custom_white_list": white_list}]


@given(st.lists(st.booleans(), max_size=60), st.sampled_from([1.0, 8.0, 32768.0]))
def test_the_loss_scale_is_a_power_of_2_halved_by_every_overflow(finite, start):
    scale = LossScale(start, dynamic=True)
    for was_finite in finite:
        before, scale = scale, scale.after(was_finite)
        assert scale.value == (before.value if was_finite else max(1, before.value / 2))
        assert scale.finite_steps == (before.finite_steps + 1 if was_finite else 0)


def test_the_loss_scale_doubles_after_enough_finite_steps_in_a_row():
    scale = LossScale(8.0, dynamic=True)
    for _ in range(precision.GROW_EVERY - 1):
        scale = scale.after(True)
    assert scale.value == 8
    assert scale.after(False) == LossScale(4.0, 0, dynamic=True)
    assert scale.after(True) == LossScale(16.0, 0, dynamic=True)


def test_a_scale_that_is_not_dynamic_stays():
    assert LossScale().after(False).after(True) == LossScale()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_only_float16_on_a_device_that_has_it_is_scaled(dtype, monkeypatch):
    assert precision.initial_scale(Precision(dtype=dtype)) == LossScale()
    monkeypatch.setattr(device, "on_gpu", lambda: True)
    scale = precision.initial_scale(Precision(dtype=dtype, initial_loss_scale=64))
    assert scale == (LossScale(64.0, dynamic=True) if dtype == "float16" else LossScale())


def test_autocast_does_nothing_on_a_cpu():
    for dtype in ("float32", "bfloat16", "float16"):
        with precision.autocast(Precision(dtype=dtype)):
            assert paddle.matmul(paddle.ones([2, 2]), paddle.ones([2, 2])).dtype == paddle.float32
