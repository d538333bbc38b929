"""Tables of scores are formed a few at a time; how many is no part of the result."""

import numpy as np
import paddle
import pytest

from pretrain.objectives import divergence, relations

MIXES = {"token": (0.0, 0.0), "head": (1.0, 0.0), "sample": (0.0, 1.0), "all": (0.2, 0.3)}


def loss_and_gradient(alpha, beta):
    """Of a fixed batch of 6 samples of at most 5 tokens, in groups of 3, with 4 heads."""
    random = np.random.default_rng(0)
    student, teacher = (
        paddle.to_tensor(random.normal(0, 2, [6, 5, width]).astype("float32")) for width in (12, 20)
    )
    mask = paddle.to_tensor((np.arange(5) < random.integers(1, 6, (6, 1))).astype("int64"))
    student.stop_gradient = False
    loss = relations.relation_loss(
        student, teacher, mask, 4, 3, relations.relation_weights(alpha, beta)
    )
    loss.backward()
    return float(loss), student.grad.numpy()


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("table", [1, 250, 400])
def test_small_tables_give_the_loss_of_a_whole_one(mix, table, monkeypatch):
    """1: one item at a time; at 250 (sample) and 400 (token, head) the last part is smaller."""
    loss, gradient = loss_and_gradient(*MIXES[mix])
    monkeypatch.setattr(divergence, "TABLE_CPU", table)
    actual, found_gradient = loss_and_gradient(*MIXES[mix])
    assert actual == pytest.approx(loss, rel=1e-6)
    np.testing.assert_allclose(found_gradient, gradient, rtol=1e-5, atol=1e-8)


def test_parts_cover_the_first_axis_in_order():
    x = paddle.arange(7)
    assert [part.tolist() for part in divergence.in_parts(x, 3, 3)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert divergence.in_parts(None, 3, 3) == [None] * 3
    assert divergence.in_parts(x, 9, 1)[0] is x
