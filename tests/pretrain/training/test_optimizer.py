"""Schedule, clipping and decay as functions of values."""

import math
from itertools import pairwise

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paddle import nn

from pretrain.encoders.load import build_encoder
from pretrain.objectives.masked_lm import MaskedLM
from pretrain.objectives.settings import Masking
from pretrain.training import optimizer as optimize
from pretrain.training.settings import Clip, Optimizer
from tests.pretrain import tiny


@given(st.integers(0, 50), st.integers(1, 200), st.floats(1e-6, 1.0))
def test_the_rate_rises_to_its_peak_falls_to_0_and_never_leaves_that_range(warmup, more, peak):
    total = warmup + more
    schedule = Optimizer(warmup_steps=warmup, total_steps=total, learning_rate=peak)
    rates = [optimize.learning_rate(schedule, step) for step in range(total + 3)]
    assert all(0 <= rate <= peak * (1 + 1e-12) for rate in rates)
    assert max(rates) == pytest.approx(peak)
    assert rates[max(0, warmup - 1)] == pytest.approx(peak)
    assert all(a <= b * (1 + 1e-12) for a, b in pairwise(rates[:warmup]))
    assert all(a >= b for a, b in pairwise(rates[warmup:]))
    assert all(rate > 0 for rate in rates[:total])  # the last update still moves
    assert rates[total:] == [0, 0, 0]


def test_the_published_schedule():
    schedule = Optimizer()  # 6e-4 after 4,000 of 400,000
    for updates, expected in ((0, 1.5e-7), (1999, 3e-4), (3999, 6e-4), (202000, 3e-4)):
        assert optimize.learning_rate(schedule, updates) == pytest.approx(expected)


def with_gradients(*gradients):
    """Parameters with these gradients, and one without."""
    parameters = []
    for gradient in gradients:
        parameter = paddle.create_parameter([len(gradient)], "float32")
        (parameter * paddle.to_tensor(gradient)).sum().backward()
        parameters.append(parameter)
    return [*parameters, paddle.create_parameter([2], "float32")]


def clipped(clip, *gradients):
    parameters = with_gradients(*gradients)
    norm = optimize.clip_gradients(parameters, clip)
    assert parameters[-1].grad is None
    return float(norm), [parameter.grad.numpy() for parameter in parameters[:-1]]


lists = st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=4)


@settings(max_examples=40, deadline=None)
@given(st.lists(lists, min_size=1, max_size=3), st.floats(0.0078125, 64))
def test_each_clipping_is_what_its_name_says(gradients, limit):
    arrays = [np.array(gradient, np.float64) for gradient in gradients]
    norms = [np.linalg.norm(array) for array in arrays]
    total = math.sqrt(sum(norm**2 for norm in norms))
    expected = {
        "none": arrays,
        "value": [array.clip(-limit, limit) for array in arrays],
        "norm": [x * min(1, limit / max(n, 1e-9)) for x, n in zip(arrays, norms, strict=True)],
        "global_norm": [array * min(1, limit / max(total, 1e-9)) for array in arrays],
    }
    for by, wanted in expected.items():
        norm, actual = clipped(Clip(by=by, limit=limit), *gradients)
        assert norm == pytest.approx(total, rel=1e-4, abs=1e-5)  # from before, whatever is clipped
        for one, other in zip(actual, wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("by", ["none", "value", "norm", "global_norm"])
@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_the_norm_tells_of_a_gradient_that_is_not_finite(by, bad):
    norm, _ = clipped(Clip(by=by), [1.0, bad], [2.0])
    assert not math.isfinite(norm)


@pytest.mark.parametrize("size", [2**24, 2**20 + 1, 2**21])
def test_the_norm_of_a_large_gradient_is_exact(size):
    """An embedding's: added up in one float32 it was 3% off."""
    gradient = np.random.default_rng(0).standard_normal(size, np.float32)
    norm, _ = clipped(Clip(by="none"), gradient)
    assert norm == pytest.approx(np.sqrt(np.square(gradient, dtype=np.float64).sum()), rel=1e-4)


def test_unscaling_divides_what_is_there():
    parameters = with_gradients([8.0, -4.0])
    optimize.unscale(parameters, 4.0)
    assert parameters[0].grad.tolist() == [2, -1]
    optimize.unscale(parameters, 1.0)
    assert parameters[0].grad.tolist() == [2, -1]


@pytest.mark.parametrize("family", ["Bert", "Ernie", "PPMiniLM", "Roberta"])
def test_biases_and_norms_are_spared_from_decay_and_nothing_else_is(family):
    config = {"architectures": [f"{family}Model"], "vocab_size": 40, "pad_token_id": 1}
    encoder = build_encoder({**config, **tiny.sizes(1, 8)})
    manifest = type("Vocabulary", (), {"vocab_size": 40, "special_ids": {"pad": 0}})
    objective = MaskedLM(encoder, manifest, Masking())
    norms = {
        id(p) for x in objective.sublayers() if isinstance(x, nn.LayerNorm) for p in x.parameters()
    }
    for name, parameter in objective.named_parameters():
        spared = id(parameter) in norms or name.endswith("bias")
        assert optimize.is_bias_or_norm(name) == spared, name


def test_decay_moves_only_what_decays_and_frozen_weights_stay():
    class Some(nn.Layer):
        def __init__(self):
            super().__init__()
            self.linear, self.norm, self.frozen = nn.Linear(2, 2), nn.LayerNorm(2), nn.Linear(2, 2)
            for parameter in self.frozen.parameters():
                parameter.stop_gradient = True

    layer = Some()
    layer.linear.bias.set_value(paddle.ones([2]))
    settings_ = Optimizer(weight_decay=0.5, learning_rate=1.0, warmup_steps=0, total_steps=2)
    optimizer = optimize.build_optimizer(layer, settings_)
    before = {name: value.numpy().copy() for name, value in layer.state_dict().items()}
    optimizer.set_lr(0.1)
    (layer.norm(layer.linear(paddle.ones([1, 2]))).sum() * 0).backward()  # gradients of 0
    optimizer.step()
    for name, value in layer.state_dict().items():
        factor = 0.95 if name == "linear.weight" else 1.0
        np.testing.assert_allclose(value.numpy(), before[name] * factor, rtol=1e-6, err_msg=name)
    assert len(optimizer._parameter_list) == 4
