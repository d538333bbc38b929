"""Linear layers with a fast gradient of the bias on a CPU.

Paddle sums a bias's gradient over the rows with one thread, which takes an eighth of a student's
forward and backward. As a product with a row of ones it takes almost no time.
"""

import contextlib
from collections.abc import Iterator

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from pretrain.encoders import device


class Linear(nn.Layer):
    """x @ weight + bias, sharing the parameters of an `nn.Linear`, under the same names."""

    def __init__(self, original: nn.Linear):
        super().__init__()
        self.weight, self.bias = original.weight, original.bias

    def forward(self, x: Tensor) -> Tensor:
        """x: [..., in] -> [..., out]."""
        if not paddle.is_grad_enabled():
            return F.linear(x, self.weight, self.bias)
        return Affine.apply(x, self.weight, self.bias)


class Affine(paddle.autograd.PyLayer):
    """x @ weight + bias. x: [..., in]; weight: [in, out]; bias: [out]."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """[..., out]."""
        ctx.save_for_backward(x, weight)
        ctx.x_learns = not x.stop_gradient
        return paddle.matmul(x, weight).add_(bias)

    @staticmethod
    def backward(ctx, upstream: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        """By x (unless it wants none), weight and bias."""
        x, weight = ctx.saved_tensor()
        rows = upstream.reshape([-1, upstream.shape[-1]])
        ones = paddle.ones([1, rows.shape[0]], rows.dtype)
        return (
            paddle.matmul(upstream, weight, transpose_y=True) if ctx.x_learns else None,
            paddle.matmul(x.reshape([-1, x.shape[-1]]), rows, transpose_x=True),
            paddle.matmul(ones, rows).reshape([-1]),
        )


def replace_linears(model: nn.Layer) -> list[tuple[nn.Layer, str, nn.Linear]]:
    """On a CPU, put a `Linear` in the place of each `nn.Linear` of `model` that is trained.

    Parameters, their names and the state dict do not change. Returns (parent, name, the original)
    of each.
    """
    if device.on_gpu():
        return []
    replaced = [
        (parent, name, child)
        for parent in model.sublayers(include_self=True)
        for name, child in parent.named_children()
        if type(child) is nn.Linear and not child.weight.stop_gradient
    ]
    for parent, name, child in replaced:
        setattr(parent, name, Linear(child))
    return replaced


@contextlib.contextmanager
def replaced_linears(model: nn.Layer) -> Iterator[None]:
    """`replace_linears`, and the originals back in their places at the end."""
    replaced = replace_linears(model)
    try:
        yield
    finally:
        for parent, name, original in replaced:
            setattr(parent, name, original)
