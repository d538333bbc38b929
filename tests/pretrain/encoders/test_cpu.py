"""The settings of the process that a CPU needs."""

import subprocess
import sys

PROGRAM = """
import paddle
from pretrain.encoders.cpu import prepare_cpu

subnormal, normal = paddle.full([64, 64], 1e-40), paddle.full([64, 64], 1e-30)
print(paddle.matmul(subnormal, paddle.full([64, 64], 1e10)).max().item() > 0)
prepare_cpu()
print(paddle.matmul(subnormal, paddle.full([64, 64], 1e10)).max().item() > 0)
print(paddle.matmul(normal, paddle.full([64, 64], 1e10)).max().item() > 0)
x = paddle.arange(6, dtype="float32").reshape([2, 3])
print(x.is_contiguous(), x.transpose([1, 0]).is_contiguous(), x.transpose([1, 0]).tolist())
"""


def test_subnormal_numbers_are_zero_and_transposed_tensors_are_copied():
    done = subprocess.run(  # the settings are those of a process
        [sys.executable, "-W", "ignore", "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:4] == [
        "True",
        "False",
        "True",
        "True True [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]",
    ]
