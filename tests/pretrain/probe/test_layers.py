"""States of all layers and relation entropies, against the plain definitions."""

import numpy as np
import paddle
import pytest
from scipy.stats import entropy

from pretrain.encoders.load import load_encoder
from pretrain.encoders.states import states_at
from pretrain.probe.layers import relation_entropies, states_of_layers


def test_states_of_all_layers_are_those_of_each(tiny_root):
    teacher = load_encoder(tiny_root / "teacher")
    ids = paddle.to_tensor([[2, 7, 9, 3], [2, 8, 3, 0]])
    mask = paddle.to_tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    for layer, states in enumerate(states_of_layers(teacher, ids, mask), 1):
        for actual, expected in zip(
            states, states_at(teacher, ids, mask, layer, True), strict=True
        ):
            np.testing.assert_allclose(actual.numpy(), expected.numpy(), atol=1e-6)
    assert layer == 3


def test_entropy_is_that_of_each_row_over_the_real_tokens():
    random = np.random.default_rng(3)
    x, mask = random.normal(size=(2, 5, 6)), np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    expected = []
    for sample, count in ((0, 5), (1, 3)):
        for head in range(2):
            rows = x[sample, :count, 3 * head : 3 * head + 3]
            table = np.exp(rows @ rows.T / np.sqrt(3))
            expected += (entropy(table, axis=1) / np.log(count)).tolist()
    assert relation_entropies(x, mask, 2) == pytest.approx(expected)


def test_equal_tokens_are_uniform_and_long_ones_relate_to_themselves():
    mask = np.ones((1, 4))
    assert relation_entropies(np.ones((1, 4, 8)), mask, 2) == pytest.approx(1.0)
    apart = 100 * np.eye(4)[None]
    assert relation_entropies(apart, mask, 1) == pytest.approx(0.0, abs=1e-9)
    assert relation_entropies(np.ones((1, 4, 8)), np.array([[1, 0, 0, 0]]), 2).size == 0
