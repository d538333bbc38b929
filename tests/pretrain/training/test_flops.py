"""The highest rate of a device, measured in the format that a run computes in."""

import paddle
import pytest

from pretrain.encoders import device
from pretrain.training import flops


@pytest.mark.parametrize("on_gpu", [False, True])
def test_the_ceiling_is_of_products_alone(monkeypatch, on_gpu):
    """Of operands that have the format already: autocast would convert them for each product, and
    the time of these copies would make the ceiling too low."""
    products, matmul = [], paddle.matmul

    def recorded(x, y):
        products.append((list(x.shape), list(y.shape), x.dtype, y.dtype))
        return matmul(x.astype("float32"), y.astype("float32"))

    monkeypatch.setattr(paddle, "matmul", recorded)
    monkeypatch.setattr(device, "on_gpu", lambda: on_gpu)
    monkeypatch.setattr(device, "synchronise", lambda: None)
    monkeypatch.setattr(flops, "CEILING_GPU", 16)
    monkeypatch.setattr(flops, "CEILING_ROWS", 32)
    assert flops.matmul_ceiling(8, "bfloat16") > 0
    shapes = ([16, 16], [16, 16]) if on_gpu else ([32, 8], [8, 32])
    assert products == [(*shapes, paddle.bfloat16, paddle.bfloat16)] * (1 + flops.CEILING_REPEATS)
