"""Linear layers put in the place of Paddle's compute, learn and are stored as those did."""

import copy

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paddle import nn

from pretrain.encoders.linear import Linear, replace_linears, replaced_linears


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
    replace_linears(block)
    assert type(block.self_attn.q_proj) is type(block.linear1) is Linear
    assert type(block.linear2) is nn.Linear
    assert sorted(p.name for p in block.parameters()) == sorted(names)
    after = block.state_dict()
    assert after.keys() == before.keys()
    assert all((after[name].numpy() == value).all() for name, value in before.items())


def test_a_replaced_layer_learns_what_the_original_learns(block):
    other = copy.deepcopy(block)
    replace_linears(other)
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
    originals = {name: layer for name, layer in block.named_sublayers() if type(layer) is nn.Linear}
    with pytest.raises(KeyboardInterrupt), replaced_linears(block):
        assert type(block.linear1) is Linear
        raise KeyboardInterrupt
    assert all(layer is originals[name] for name, layer in block.named_sublayers()
               if name in originals)  # fmt: skip
