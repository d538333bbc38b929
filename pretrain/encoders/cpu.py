"""What makes Paddle compute at a CPU's speed. Neither changes a result that float32 can tell apart.

- Gradients of relations are small: with the student's layers below them, many fall under 1e-38,
  where float32 becomes subnormal. A product with such numbers takes up to 200 times as long, so
  they are flushed to zero, as `torch.set_flush_denormal` does.
- Paddle's views of transposed tensors are copied element by element by the next operation. Without
  views the transposition itself moves blocks of memory, ten times as fast.
"""

import ctypes
import ctypes.util
import platform

import paddle

from pretrain.encoders import device

FLUSH_TO_ZERO = 0x8000  # results, bit 15 of the register MXCSR
DENORMALS_ARE_ZERO = 0x0040  # operands, bit 6
MXCSR = 7  # its place in C's fenv_t on x86-64, in words of 32 bits


def prepare_cpu() -> None:
    """Set both for this process, unless it computes on a GPU. To be called before a training or an
    evaluation; importing a library may set the register back."""
    if device.on_gpu():
        return
    paddle.set_flags({"FLAGS_use_stride_kernel": False})
    if platform.system() == "Linux" and platform.machine() == "x86_64":
        flush_denormals()


def flush_denormals() -> None:
    """Let this thread, and those it starts, treat subnormal numbers as zero; x86-64 only."""
    library = ctypes.CDLL(ctypes.util.find_library("m"))
    environment = (ctypes.c_uint32 * 8)()  # fenv_t: 28 bytes for the x87 unit, then MXCSR
    library.fegetenv(environment)
    environment[MXCSR] |= FLUSH_TO_ZERO | DENORMALS_ARE_ZERO
    library.fesetenv(environment)
