"""AdamW, its schedule, clipping and loss scaling; the last three as pure functions of values."""

import contextlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import paddle
from paddle import Tensor, nn

from pretrain.training.settings import Clip, Optimizer, Precision

GROW_EVERY = 1000  # finite steps in a row after which the loss scale doubles


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


def clip_gradients(parameters: Iterable[Tensor], clip: Clip) -> Tensor:
    """Clip in place; return the global norm from before, a float32 scalar."""
    parameters = [parameter for parameter in parameters if parameter.grad is not None]
    limit = clip.limit if clip.by == "global_norm" else math.inf
    norm = paddle.nn.utils.clip_grad_norm_(parameters, limit)
    if clip.by == "value":
        paddle.nn.utils.clip_grad_value_(parameters, clip.limit)
    elif clip.by == "norm":
        for parameter in parameters:
            paddle.nn.utils.clip_grad_norm_([parameter], clip.limit)
    return norm


@paddle.no_grad()
def unscale(parameters: Iterable[Tensor], scale: float) -> None:
    """Divide gradients by the loss scale, in place."""
    if scale != 1.0:
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.scale_(1.0 / scale)


@dataclass(frozen=True)
class LossScale:
    """Scale of a float16 loss: halved by an overflow, doubled after GROW_EVERY finite steps."""

    value: float = 1.0
    finite_steps: int = 0
    dynamic: bool = False

    def after(self, finite: bool) -> "LossScale":
        """The scale for the next step."""
        if not self.dynamic:
            return self
        if not finite:
            return replace(self, value=max(1.0, self.value / 2), finite_steps=0)
        if self.finite_steps + 1 == GROW_EVERY:
            return replace(self, value=self.value * 2, finite_steps=0)
        return replace(self, finite_steps=self.finite_steps + 1)


def initial_scale(precision: Precision) -> LossScale:
    """1 and fixed, but for float16 on a device that computes in it."""
    if effective_dtype(precision) == "float16":
        return LossScale(precision.initial_loss_scale, dynamic=True)
    return LossScale()


def effective_dtype(precision: Precision) -> str:
    """What matrix products really run in: Paddle's CPU build ignores mixed precision."""
    return precision.dtype if paddle.is_compiled_with_cuda() else "float32"


def autocast(precision: Precision):
    """A context in which matrix products run in the recipe's precision."""
    dtype = effective_dtype(precision)
    if dtype == "float32":
        return contextlib.nullcontext()
    return paddle.amp.auto_cast(dtype=dtype, level=precision.level)
