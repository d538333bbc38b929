"""The settings that a CPU needs."""

import subprocess
import sys

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


FAULTS = """
import resource, paddle
from pretrain.encoders.cpu import fast_cpu

def faults():
    x = paddle.ones([2**22])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        y = x + 1.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
outside = faults()
with fast_cpu():
    faults()
    inside = faults()
print(outside, inside, faults())
"""


def test_inside_freed_memory_is_used_again():
    """Results of 16 MB have 4,096 pages each, which the kernel clears when they are new."""
    lines = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FAULTS], capture_output=True, text=True, check=True
    ).stdout
    outside, inside, after = map(int, lines.split())
    assert outside > 50 * 2000 and after > 50 * 2000
    assert inside < outside / 5
