"""Layers put in the place of Paddle's compute, learn and are stored as those did."""

import copy

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paddle import nn

from pretrain.encoders.cpu_layers import (
    Attention,
    Dropout,
    LayerNorm,
    Linear,
    dropout,
    replace_layers,
    replaced_layers,
)


def gradients(layer, x, upstream):
    """Output, and gradients by x, weight and bias."""
    x = paddle.to_tensor(x, stop_gradient=False)
    y = layer(x)
    actual = paddle.grad([y], [x, layer.weight, layer.bias], [paddle.to_tensor(upstream)])
    return [tensor.numpy() for tensor in (y, *actual)]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=3), st.integers(1, 6), st.integers(1, 6))
def test_values_and_gradients_are_those_of_the_formula(lead, inner, outer):
    random = np.random.default_rng(0)
    original = nn.Linear(inner, outer)
    original.bias.set_value(random.normal(size=outer).astype("float32"))
    x = random.normal(size=(*lead, inner)).astype("float32")
    upstream = random.normal(size=(*lead, outer)).astype("float32")
    weight, bias = original.weight.numpy(), original.bias.numpy()
    wanted = [
        x @ weight + bias,
        upstream @ weight.T,
        x.reshape(-1, inner).T @ upstream.reshape(-1, outer),
        upstream.reshape(-1, outer).sum(axis=0),
    ]
    for actual, expected in zip(gradients(Linear(original), x, upstream), wanted, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(2, 9), st.floats(0.1, 30),
    st.floats(-10, 10), st.integers(0, 99),
)  # fmt: skip
def test_layer_norm_is_its_formula(lead, width, spread, middle, seed):
    """In float64, with the gradient as a difference of the function itself."""
    random = np.random.default_rng(seed)
    original = nn.LayerNorm(width, epsilon=1e-5)
    for parameter in (original.weight, original.bias):
        parameter.set_value(random.normal(size=width).astype("float32"))
    x, upstream = (random.normal(size=(*lead, width)) for _ in range(2))
    # Of values that are equal but for their last digits float32 knows no deviation.
    x = ((x / 10 + np.arange(width) + middle) * spread).astype("float32")
    weight, bias = original.weight.numpy(), original.bias.numpy()

    def norm(x, weight, bias):
        x = x.astype("float64")
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * weight + bias

    def slope(number):
        values = [x.astype("float64"), weight.astype("float64"), bias.astype("float64")]
        gradient, step = np.zeros(values[number].shape), 1e-5
        for at in np.ndindex(gradient.shape):
            sides = []
            for sign in (1, -1):
                moved = [value.copy() for value in values]
                moved[number][at] += sign * step
                sides.append((norm(*moved) * upstream).sum())
            gradient[at] = (sides[0] - sides[1]) / (2 * step)
        return gradient

    wanted = [norm(x, weight, bias), slope(0), slope(1), slope(2)]
    actual = gradients(LayerNorm(original), x, upstream.astype("float32"))
    for ours, expected in zip(actual, wanted, strict=True):
        scale = max(1.0, abs(expected).max())
        np.testing.assert_allclose(ours / scale, expected / scale, atol=2e-3)


def test_the_layer_norm_of_equal_values_has_a_gradient():
    x = np.full([2, 4], 3.0, np.float32)
    for values in gradients(LayerNorm(nn.LayerNorm(4)), x, np.ones_like(x)):
        assert np.isfinite(values).all()


@pytest.fixture
def block():
    """A transformer layer whose last product is frozen."""
    paddle.seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0)
    for parameter in layer.linear2.parameters():
        parameter.stop_gradient = True
    return layer


def test_what_is_trained_is_replaced_and_the_state_keeps_its_names(block):
    before = {name: value.numpy() for name, value in block.state_dict().items()}
    names = [parameter.name for parameter in block.parameters()]
    replace_layers(block)
    assert type(block.self_attn.q_proj) is type(block.linear1) is Linear
    assert type(block.linear2) is nn.Linear
    assert type(block.self_attn) is Attention
    assert type(block.dropout1) is Dropout
    assert type(block.norm1) is LayerNorm
    assert sorted(p.name for p in block.parameters()) == sorted(names)
    after = block.state_dict()
    assert after.keys() == before.keys()
    assert all((after[name].numpy() == value).all() for name, value in before.items())


def test_a_replaced_layer_learns_what_the_original_learns(block):
    other = copy.deepcopy(block)
    replace_layers(other)
    x = paddle.randn([2, 3, 8])
    for layer in (block, other):
        layer(x).square().sum().backward()
    ours = dict(other.named_parameters())
    for name, parameter in block.named_parameters():
        if not parameter.stop_gradient:
            np.testing.assert_allclose(
                ours[name].grad.numpy(), parameter.grad.numpy(), rtol=1e-4, atol=1e-4
            )


def test_the_originals_return(block):
    kept = (nn.Linear, nn.LayerNorm, nn.Dropout, nn.MultiHeadAttention)
    originals = {name: layer for name, layer in block.named_sublayers() if type(layer) in kept}
    with pytest.raises(KeyboardInterrupt), replaced_layers(block):
        assert type(block.linear1) is Linear
        raise KeyboardInterrupt
    after = dict(block.named_sublayers())
    assert all(after[name] is layer for name, layer in originals.items())


def test_the_originals_return_in_the_mode_that_the_model_has_then(block):
    """Else a model that was evaluated last would predict with dropout."""
    block.train()
    with replaced_layers(block):
        block.eval()
        block.self_attn.num_heads = 1
    assert not any(layer.training for layer in block.sublayers(include_self=True))
    assert block.self_attn.num_heads == 1
    with replaced_layers(block):
        assert not block.dropout1.training


@settings(max_examples=20, deadline=None)
@given(
    st.integers(1, 3), st.integers(1, 5), st.integers(1, 5), st.sampled_from([1, 2, 4]),
    st.booleans(), st.integers(0, 99),
)  # fmt: skip
def test_attention_without_dropout_is_paddles(batch, queries, length, heads, masked, seed):
    paddle.seed(seed)
    original = nn.MultiHeadAttention(8, heads)
    x, y = paddle.randn([batch, queries, 8]), paddle.randn([batch, length, 8])
    bias = paddle.randn([batch, 1, 1, length]) if masked else None
    ours = Attention(original)(x, y, y, bias)
    np.testing.assert_allclose(ours.numpy(), original(x, y, y, bias).numpy(), rtol=1e-5, atol=1e-6)


def test_attention_drops_weights_before_the_values_are_mixed(monkeypatch):
    paddle.seed(0)
    layer = Attention(nn.MultiHeadAttention(4, 2, dropout=0.5))
    x = paddle.randn([1, 3, 4])
    asked = []
    monkeypatch.setattr(
        "pretrain.encoders.cpu_layers.dropout", lambda w, p: asked.append((w.shape, p)) or w * 0
    )
    np.testing.assert_allclose(
        layer(x, x, x, None).numpy(),
        np.broadcast_to(layer.out_proj.bias.numpy(), (1, 3, 4)),  # nothing is left of the values
    )
    assert asked == [([1, 2, 3, 3], 0.5)]
    layer.eval()
    assert abs(layer(x, x, x, None).numpy() - layer.out_proj.bias.numpy()).max() > 1e-3


@settings(max_examples=20, deadline=None)
@given(st.floats(0.001, 0.9), st.integers(0, 2**31 - 1), st.integers(1, 7))
def test_dropout_keeps_the_mean_and_the_share_that_it_is_told(p, seed, rows):
    paddle.seed(seed)
    x = paddle.ones([rows, 40_001])  # not a multiple of four
    x.stop_gradient = False
    y = dropout(x, p)
    count, kept = x.size, float((y != 0).astype("float64").mean())
    sigma = (p * (1 - p) / count) ** 0.5
    assert abs(kept - (1 - p)) < 6 * sigma + 1 / 2**16
    (gradient,) = paddle.grad(y.sum(), x)
    assert (gradient.numpy() == y.numpy()).all()  # of ones: the mask itself
    limit = round(p * 2**16)
    assert set(np.unique(y.numpy())) <= {np.float32(0), np.float32(2**16 / (2**16 - limit))}


def test_some_elements_are_kept_whatever_the_probability():
    """A recipe may ask for anything below 1."""
    assert np.isfinite(dropout(paddle.ones([1000]), 0.999_999).numpy()).all()


def test_dropout_is_decided_by_paddles_seed():
    def drawn(seed):
        paddle.seed(seed)
        return [dropout(paddle.ones([64]), 0.5).numpy() for _ in range(2)]

    first, second = drawn(7)
    assert (first != second).any()
    assert all((x == y).all() for x, y in zip((first, second), drawn(7), strict=True))
    assert (first != drawn(8)[0]).any()


def test_elements_are_dropped_independently():
    """Neither neighbours nor elements of the same 64 bits hang together."""
    paddle.seed(0)
    kept = (dropout(paddle.ones([400_000]), 0.5).numpy() != 0).astype(np.float64)
    for distance in (1, 2, 3, 4, 8, 768):
        assert abs(np.corrcoef(kept[:-distance], kept[distance:])[0, 1]) < 0.01


def test_a_layer_that_is_not_training_drops_nothing():
    layer = Dropout(nn.Dropout(0.5))
    layer.eval()
    assert (layer(paddle.ones([100])).numpy() == 1).all()
