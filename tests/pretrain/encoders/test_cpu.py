"""The settings that a CPU needs."""

import paddle
import pytest

from pretrain.encoders.cpu import fast_cpu


def product(value):
    """Of a table of `value` by a table of 1e10."""
    x, y = paddle.full([64, 64], value), paddle.full([64, 64], 1e10)
    return paddle.matmul(x, y).max().item()


def test_inside_subnormal_numbers_are_zero_and_transposed_tensors_are_copied():
    assert product(1e-40) > 0
    with pytest.raises(KeyboardInterrupt), fast_cpu():
        assert product(1e-40) == 0
        assert product(1e-30) > 0
        transposed = paddle.arange(6, dtype="float32").reshape([2, 3]).transpose([1, 0])
        assert transposed.is_contiguous()
        assert transposed.tolist() == [[0, 3], [1, 4], [2, 5]]
        raise KeyboardInterrupt
    assert product(1e-40) > 0
    assert not paddle.ones([2, 3]).transpose([1, 0]).is_contiguous()
