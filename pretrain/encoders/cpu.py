"""What makes Paddle compute at a CPU's speed. Neither changes a result that float32 can tell apart.

- Gradients of relations are small: with the student's layers below them, many fall under 1e-38,
  where float32 becomes subnormal. A product with such numbers takes up to 200 times as long, so
  they are flushed to zero, as `torch.set_flush_denormal` does.
- Paddle's views of transposed tensors are copied element by element by the next operation. Without
  views the transposition itself moves blocks of memory, ten times as fast.
"""

import contextlib
import ctypes
import ctypes.util
import platform
from collections.abc import Iterator

import paddle

from pretrain.encoders import device

FLUSH_TO_ZERO = 0x8000  # results, bit 15 of the register MXCSR
DENORMALS_ARE_ZERO = 0x0040  # operands, bit 6
MXCSR = 7  # its place in C's fenv_t on x86-64, in words of 32 bits
VIEWS = "FLAGS_use_stride_kernel"


@contextlib.contextmanager
def fast_cpu() -> Iterator[None]:
    """Both inside, unless this process computes on a GPU; as it was after.

    Enter it when all libraries are loaded: loading one may set the register back.
    """
    if device.on_gpu():
        yield
        return
    views = paddle.get_flags(VIEWS)
    paddle.set_flags({VIEWS: False})
    try:
        with flushed_denormals():
            yield
    finally:
        paddle.set_flags(views)


@contextlib.contextmanager
def flushed_denormals() -> Iterator[None]:
    """Inside, this thread and those it starts treat subnormal numbers as zero; on x86-64 only."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        yield
        return
    library = ctypes.CDLL(ctypes.util.find_library("m"))
    before = (ctypes.c_uint32 * 8)()  # fenv_t: the x87 unit, MXCSR
    library.fegetenv(before)
    inside = (ctypes.c_uint32 * 8)(*before)
    inside[MXCSR] |= FLUSH_TO_ZERO | DENORMALS_ARE_ZERO
    library.fesetenv(inside)
    try:
        yield
    finally:
        library.fesetenv(before)
