"""Layers computed in other ways give the numbers and gradients of PaddleNLP's own."""

import numpy as np
import paddle
import pytest
from paddle import nn

from pretrain.encoders.compute import Compute
from pretrain.encoders.load import build_encoder
from pretrain.encoders.states import (
    attention_bias,
    fused_attention,
    fused_block,
    hidden_states,
    states_at,
)
from tests.pretrain import tiny

IDS = paddle.to_tensor(np.random.default_rng(0).integers(5, 40, (3, 9)))
MASK = paddle.to_tensor((np.arange(9) < np.array([[9], [4], [1]])).astype("int64"))


def make_encoder(dropout=0.0):
    paddle.seed(3)
    sizes = tiny.sizes(3, 16)
    sizes |= {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    config = {"architectures": ["PPMiniLMModel"], "vocab_size": 40, **sizes}
    return build_encoder({**config, "initializer_range": 0.3})


def states_and_gradients(encoder, compute):
    paddle.seed(11)  # of dropout
    encoder.clear_gradients()
    states = states_at(encoder, IDS, MASK, 3, with_hidden=True, compute=compute)
    sum(x.square().mean() for x in states).backward()
    named = encoder.named_parameters()
    gradients = {name: p.grad.numpy().copy() for name, p in named if p.grad is not None}
    return [x.numpy() for x in states], gradients


@pytest.mark.parametrize("attention", ["plain", "fused"])
def test_recompute_draws_the_same_dropout_and_gives_the_same_gradients(attention):
    encoder = make_encoder(dropout=0.2)
    encoder.train()
    expected = states_and_gradients(encoder, Compute(attention=attention))
    actual = states_and_gradients(encoder, Compute(attention=attention, recompute=True))
    for x, y in zip(actual[0], expected[0], strict=True):
        np.testing.assert_array_equal(x, y)
    assert actual[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        # Gradients of one tensor are summed in another order: the last bit may differ.
        np.testing.assert_allclose(actual[1][name], gradient, rtol=1e-4, atol=1e-6, err_msg=name)


def test_fused_attention_gives_the_states_and_gradients_of_the_plain_form():
    encoder = make_encoder()
    expected = states_and_gradients(encoder, Compute())
    actual = states_and_gradients(encoder, Compute(attention="fused"))
    real = MASK.numpy() == 1
    for x, y in zip(actual[0], expected[0], strict=True):
        np.testing.assert_allclose(x[real], y[real], atol=1e-5)
    for name, gradient in expected[1].items():
        np.testing.assert_allclose(actual[1][name], gradient, atol=1e-5, err_msg=name)


def test_fused_attention_is_the_formula():
    attention = make_encoder().encoder.layers[0].self_attn
    x = paddle.randn([3, 9, 16])
    heads, size = attention.num_heads, 16 // attention.num_heads
    q, k, v = (
        getattr(attention, f"{name}_proj")(x).numpy().reshape(3, 9, heads, size).swapaxes(1, 2)
        for name in "qkv"
    )
    scores = q @ k.swapaxes(2, 3) / size**0.5 + attention_bias(MASK).numpy()
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    mixed = (weights @ v).swapaxes(1, 2).reshape(3, 9, 16)
    expected = attention.out_proj(paddle.to_tensor(mixed)).numpy()
    actual = fused_attention(attention, x, attention_bias(MASK)).numpy()
    np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.parametrize("normalize_before", [False, True])
def test_a_fused_block_is_the_block(normalize_before):
    paddle.seed(0)
    block = nn.TransformerEncoderLayer(16, 2, 32, normalize_before=normalize_before)
    block.eval()
    x, bias = paddle.randn([3, 9, 16]), attention_bias(MASK)
    np.testing.assert_allclose(
        fused_block(block, x, bias).numpy(), block(x, bias).numpy(), atol=1e-5
    )


def test_hidden_states_are_those_of_paddlenlps_forward():
    encoder = make_encoder()
    encoder.eval()
    top, _ = encoder(IDS, attention_mask=MASK)
    np.testing.assert_allclose(hidden_states(encoder, IDS, MASK, 3).numpy(), top.numpy(), atol=1e-5)
