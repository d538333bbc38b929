"""Layers that train faster on a CPU than Paddle's, which they take the place of.

- `Linear`: Paddle sums a bias's gradient over the rows with one thread, which takes an eighth of a
  student's forward and backward. As a product with a row of ones it takes almost no time.
- `LayerNorm`: Paddle forms its gradient with one thread too, number by number. Of whole rows, with
  means and sums as products, it takes less than half the time.
- `Dropout`, and `Attention` with it: Paddle draws one number after the other, which takes a quarter
  of a student's forward and backward. numpy draws four at once, ten times as fast.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from pretrain.encoders import device

DRAWN = 2**16  # equally likely numbers that decide whether an element is kept
AT_ONCE = 4  # of them in the 64 bits that the generator gives


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


class LayerNorm(nn.LayerNorm):
    """Layer norm over the last axis, with the parameters of the original, under the same names."""

    def __init__(self, original: nn.LayerNorm):
        nn.Layer.__init__(self)  # makes no parameters
        self.weight, self.bias = original.weight, original.bias
        self._normalized_shape, self._epsilon = original._normalized_shape, original._epsilon

    def forward(self, x: Tensor) -> Tensor:
        """x: [..., H] -> [..., H]."""
        if not paddle.is_grad_enabled():
            return super().forward(x)
        return Normalise.apply(x, self.weight, self.bias, self._epsilon)


class Normalise(paddle.autograd.PyLayer):
    """n * weight + bias, with n = (x - mean) / sqrt(variance + epsilon) in a row. x: [..., H]."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
        """[..., H]."""
        ctx.save_for_backward(x, weight)
        ctx.epsilon, ctx.x_learns = epsilon, not x.stop_gradient
        return F.layer_norm(x, x.shape[-1:], weight, bias, epsilon)

    @staticmethod
    def backward(ctx, upstream: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        """By x (unless it wants none), weight and bias.

        With g = upstream * weight: (g - mean(g) - n mean(g n)) / sqrt(variance + epsilon).
        """
        x, weight = ctx.saved_tensor()
        width = x.shape[-1]
        rows, upstream = x.reshape([-1, width]), upstream.reshape([-1, width])
        mean_of = paddle.full([width, 1], 1 / width, x.dtype)  # rows @ mean_of: [rows, 1]
        sum_of = paddle.ones([1, rows.shape[0]], x.dtype)  # sum_of @ rows: [1, H]
        centred = rows - paddle.matmul(rows, mean_of)
        inverse = paddle.rsqrt(paddle.matmul(centred * centred, mean_of) + ctx.epsilon)
        normal = centred * inverse
        product = upstream * normal
        by_x = None
        if ctx.x_learns:
            weighted_mean_of = mean_of * weight.unsqueeze(1)
            by_x = upstream * weight - paddle.matmul(upstream, weighted_mean_of)
            by_x -= normal * paddle.matmul(product, weighted_mean_of)
            by_x = (by_x * inverse).reshape(x.shape)
        return by_x, *(paddle.matmul(sum_of, y).reshape([-1]) for y in (product, upstream))


class Dropout(nn.Layer):
    """Zeroes elements with probability `p` and scales the others, in the place of `nn.Dropout`."""

    def __init__(self, original: nn.Dropout):
        super().__init__()
        self.p = original.p

    def forward(self, x: Tensor) -> Tensor:
        """Of any shape."""
        return dropout(x, self.p) if self.training and self.p else x


class Attention(nn.Layer):
    """Self-attention in the place of an `nn.MultiHeadAttention`, with its projections, by `dropout`
    of this module."""

    def __init__(self, original: nn.MultiHeadAttention):
        super().__init__()
        self.num_heads, self.head_dim = original.num_heads, original.head_dim
        self.dropout = original.dropout
        self.q_proj, self.k_proj = original.q_proj, original.k_proj
        self.v_proj, self.out_proj = original.v_proj, original.out_proj

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bias: Tensor | None = None,
        cache: None = None,
    ) -> Tensor:
        """query: [B, N, H]; key, value: [B, L, H]; bias: added to the scores, [B, 1, 1 or N, L];
        cache: PaddleNLP's layers pass it, for generation alone. Gives [B, N, H]."""
        q, k, v = (
            project(x)
            .reshape([x.shape[0], x.shape[1], self.num_heads, self.head_dim])
            .transpose([0, 2, 1, 3])
            for project, x in ((self.q_proj, query), (self.k_proj, key), (self.v_proj, value))
        )
        scores = paddle.matmul(q * self.head_dim**-0.5, k, transpose_y=True)
        weights = F.softmax(scores if bias is None else scores + bias)
        if self.training and self.dropout:
            weights = dropout(weights, self.dropout)
        mixed = paddle.matmul(weights, v).transpose([0, 2, 1, 3])
        return self.out_proj(mixed.reshape([*mixed.shape[:2], -1]))


def dropout(x: Tensor, p: float) -> Tensor:
    """x with elements zeroed with probability `p`, and the others scaled so that the mean stays.

    The choice depends on Paddle's generator alone. `p` is rounded to a multiple of 1 / DRAWN.
    """
    seed = int(paddle.randint(0, 2**31 - 1, [1]))
    count, limit = math.prod(x.shape), min(round(p * DRAWN), DRAWN - 1)
    drawn = np.random.SFC64(seed).random_raw(-(-count // AT_ONCE)).view(np.uint16)[:count]
    mask = np.multiply(drawn >= limit, np.float32(DRAWN / (DRAWN - limit)))
    return x * paddle.to_tensor(mask.reshape(x.shape))


REPLACED: dict[type[nn.Layer], Callable[[Any], nn.Layer]] = {
    nn.Linear: Linear,
    nn.LayerNorm: LayerNorm,
    nn.Dropout: Dropout,
    nn.MultiHeadAttention: Attention,
}


def replace_layers(model: nn.Layer) -> list[tuple[nn.Layer, str, nn.Layer]]:
    """On a CPU, put layers of this module in the place of those of `model` that are trained.

    Parameters, their names and the state dict do not change. Returns (parent, name, the original)
    of each.
    """
    if device.on_gpu():
        return []
    replaced = []
    for parent in reversed(model.sublayers(include_self=True)):  # inner ones first
        for name, child in list(parent.named_children()):
            if type(child) in REPLACED and _is_trained(child):
                replaced.append((parent, name, child))
                layer = REPLACED[type(child)](child)
                layer.training = child.training
                setattr(parent, name, layer)
    return replaced


def _is_trained(layer: nn.Layer) -> bool:
    """False if all of its weights are frozen."""
    weights = layer.parameters()
    return not weights or any(not weight.stop_gradient for weight in weights)


@contextlib.contextmanager
def replaced_layers(model: nn.Layer) -> Iterator[None]:
    """`replace_layers`, and the originals back in their places at the end."""
    replaced = replace_layers(model)
    try:
        yield
    finally:
        for parent, name, original in reversed(replaced):
            layer = getattr(parent, name)
            original.training = layer.training
            if isinstance(layer, Attention):
                original.num_heads = layer.num_heads  # pruning may have changed it
            setattr(parent, name, original)
