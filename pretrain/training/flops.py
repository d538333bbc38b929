"""Floating-point operations of a step, counted from shapes: products only. And the
highest rate of this device, to compare a run's rate with."""

import time
from collections.abc import Callable
from dataclasses import dataclass

CEILING_ROWS, CEILING_GPU, CEILING_REPEATS = 2048, 8192, 7
Cost = Callable[[int, int], int]  # operations of a batch of so many tokens, padded to a length


@dataclass(frozen=True)
class Shape:
    """Sizes of an encoder that its cost depends on."""

    hidden: int
    intermediate: int

    @classmethod
    def of(cls, config) -> "Shape":
        """Of anything with `hidden_size` and `intermediate_size`."""
        return cls(config.hidden_size, config.intermediate_size)


def block(shape: Shape, tokens: int, length: int) -> int:
    """One whole layer, forward, over `tokens` tokens in samples of `length`: projections, the
    two products of attention, and the feed-forward."""
    weights = 4 * shape.hidden**2 + 2 * shape.hidden * shape.intermediate
    return 2 * tokens * (weights + 2 * length * shape.hidden)


def truncated(shape: Shape, layer: int, tokens: int, length: int) -> int:
    """Forward up to the Q, K and V of layer number `layer`, from 1."""
    return (layer - 1) * block(shape, tokens, length) + 2 * tokens * 3 * shape.hidden**2


def distillation(
    teacher: Shape, teacher_layer: int, student: Shape, student_layer: int, tokens: int, length: int
) -> int:
    """Teacher forward, student forward and backward (twice the forward). Relations are left out:
    what a step does for them is not what a matrix product's ceiling is about."""
    return truncated(teacher, teacher_layer, tokens, length) + 3 * truncated(
        student, student_layer, tokens, length
    )


def masked_lm(
    shape: Shape, layers: int, vocab_size: int, masked_share: float, tokens: int, length: int
) -> int:
    """Encoder and head, forward and backward; only masked tokens go through the head."""
    head = 2 * tokens * masked_share * shape.hidden * (shape.hidden + vocab_size)
    return round(3 * (layers * block(shape, tokens, length) + head))


def matmul_ceiling(width: int, dtype: str = "float32") -> float:
    """FLOP/s of a matrix product, the best of some, of operands in the format `dtype`.

    To be called outside autocast, which would convert float32 operands for each product. On a CPU,
    the product of a feed-forward, [2048, width] x [width, 4 width]. On a GPU, one large enough to
    fill it, [8192, 8192] x [8192, 8192].
    """
    import paddle

    from pretrain.encoders import device

    rows, inner, columns = CEILING_ROWS, width, 4 * width
    if device.on_gpu():
        rows = inner = columns = CEILING_GPU
    x, w = (paddle.randn(shape).astype(dtype) for shape in ([rows, inner], [inner, columns]))
    paddle.matmul(x, w)
    seconds = []
    for _ in range(CEILING_REPEATS):
        device.synchronise()
        began = time.perf_counter()
        paddle.matmul(x, w)
        device.synchronise()
        seconds.append(time.perf_counter() - began)
    return 2 * rows * inner * columns / min(seconds)
