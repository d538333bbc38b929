"""The number formats of a run, on the device in use."""

import contextlib
from dataclasses import dataclass, replace

import paddle

from data_pipeline.base.errors import UserError
from pretrain.encoders import device
from pretrain.training.settings import Precision

GROW_EVERY = 1000  # finite steps in a row after which the loss scale doubles
# Computed in half precision besides what Paddle lists, as the published run does (PaddleNLP,
# model_compression/pp-minilm/general_distill/general_distill.py).
WHITE_LIST = ("layer_norm", "gelu", "softmax")


def configure(precision: Precision) -> None:
    """Prepare the device in use for a recipe. UserError when it lacks the precision."""
    if not device.on_gpu():
        return
    if precision.dtype == "bfloat16" and not device.has_bfloat16():
        raise UserError(
            "precision.dtype: this GPU does not compute in bfloat16 (compute capability 8.0 or "
            "higher is needed); use float16 or float32"
        )
    device.allow_tf32(precision.tf32)


def effective_dtype(precision: Precision) -> str:
    """The format that matrix products really run in: on a CPU, Paddle ignores mixed precision."""
    return precision.dtype if device.on_gpu() else "float32"


def autocast(precision: Precision):
    """A context in which the student's products run in the recipe's precision."""
    dtype = effective_dtype(precision)
    if dtype == "float32":
        return contextlib.nullcontext()
    return paddle.amp.auto_cast(dtype=dtype, level="O1", custom_white_list=WHITE_LIST)


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
