"""AdamW, its schedule and clipping; the last two as pure functions of values."""

from collections.abc import Iterable

import paddle
from paddle import Tensor, nn

from pretrain.encoders import device
from pretrain.training.settings import Clip, Optimizer

PART = 2**20  # numbers that are added up in one float32


def learning_rate(settings: Optimizer, updates: int) -> float:
    """Rate of the update that follows `updates` others: linear up to the peak, linear down to 0."""
    if updates < settings.warmup_steps:
        return settings.learning_rate * (updates + 1) / settings.warmup_steps
    left = settings.total_steps - updates
    return settings.learning_rate * max(0, left) / (settings.total_steps - settings.warmup_steps)


def build_optimizer(layer: nn.Layer, settings: Optimizer):
    """AdamW over all weights that are not frozen; no decay on biases and layer norms."""
    trained = {n: p for n, p in layer.named_parameters() if not p.stop_gradient}
    decayed = {p.name for n, p in trained.items() if not is_bias_or_norm(n)}
    return paddle.optimizer.AdamW(
        learning_rate=0.0,  # set before every step
        parameters=list(trained.values()),
        beta1=settings.beta1,
        beta2=settings.beta2,
        epsilon=settings.epsilon,
        weight_decay=settings.weight_decay,
        apply_decay_param_fun=lambda name: name in decayed,
    )


def is_bias_or_norm(name: str) -> bool:
    """Whether a weight of this name is spared from decay: `...bias`, `...norm1.weight`, ..."""
    owner, _, last = name.rpartition(".")
    return last == "bias" or "norm" in owner.rpartition(".")[2]


@paddle.no_grad()
def clip_gradients(parameters: Iterable[Tensor], clip: Clip) -> Tensor:
    """Clip in place; return the global norm from before, a float32 scalar."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    squares = [squared_norm(gradient) for gradient in gradients]
    norm = paddle.add_n(squares).sqrt()
    if clip.by == "value":
        for gradient in gradients:
            gradient.clip_(-clip.limit, clip.limit)
    elif clip.by != "none":
        norms = [norm] * len(gradients) if clip.by == "global_norm" else map(paddle.sqrt, squares)
        for gradient, own in zip(gradients, norms, strict=True):
            gradient.multiply_((clip.limit / (own + 1e-6)).clip(max=1.0).astype(gradient.dtype))
    return norm


def squared_norm(x: Tensor) -> Tensor:
    """Sum of squares, a float32 scalar.

    On a CPU by products of parts: `paddle.linalg.norm`, on which Paddle's own clipping rests, adds
    up in one float32 there, which is 3% off for the gradient of 16 million weights, and takes 25
    times as long. MKL's slowest kernels, which it takes on AMD processors, add up so too.
    """
    x = x.reshape([-1]).astype("float32")
    if device.on_gpu():
        return paddle.square(x).sum()
    if x.size <= PART:
        return paddle.matmul(x, x)
    whole, rest = divmod(x.size, PART)
    parts = paddle.split(x, [PART] * whole + [rest] * (rest > 0))
    return paddle.add_n([paddle.matmul(part, part) for part in parts])


@paddle.no_grad()
def unscale(parameters: Iterable[Tensor], scale: float) -> None:
    """Divide gradients by the loss scale, in place."""
    if scale != 1.0:
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.scale_(1.0 / scale)
