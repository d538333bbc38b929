"""What makes Paddle compute at a CPU's speed. None changes a result that float32 can tell apart.

- Gradients of relations are small: with the student's layers below them, many fall under 1e-38,
  where float32 becomes subnormal. A product with such numbers takes up to 200 times as long, so
  they are flushed to zero, as `torch.set_flush_denormal` does.
- Paddle's views of transposed tensors are copied element by element by the next operation. Without
  views the transposition itself moves blocks of memory, ten times as fast.
- Paddle asks malloc for every result, and glibc gives large ones back to the system as soon as they
  are freed: the next operation waits for the kernel to clear new pages, ten times as long as it
  computes. So freed memory is kept.
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
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # parameters of glibc's mallopt
KEPT = {M_MMAP_THRESHOLD: 2**31 - 1, M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: 2**26}  # bytes
GLIBC_DEFAULTS = {M_MMAP_THRESHOLD: 2**17, M_TRIM_THRESHOLD: 2**17, M_TOP_PAD: 2**17}


@contextlib.contextmanager
def fast_cpu() -> Iterator[None]:
    """All of it inside, unless this process computes on a GPU; as it was after.

    Enter it when all libraries are loaded: loading one may set the register back.
    """
    if device.on_gpu():
        yield
        return
    views = paddle.get_flags(VIEWS)
    paddle.set_flags({VIEWS: False})
    try:
        with flushed_denormals(), kept_memory():
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


@contextlib.contextmanager
def kept_memory() -> Iterator[None]:
    """Inside, memory that was freed stays with this process; afterwards it is given back. With
    glibc only."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        yield
        return
    for parameter, value in KEPT.items():
        library.mallopt(parameter, value)
    try:
        yield
    finally:
        for parameter, value in GLIBC_DEFAULTS.items():
            library.mallopt(parameter, value)
        library.malloc_trim(0)
