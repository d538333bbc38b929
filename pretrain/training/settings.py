"""Settings that every training run has: data, batch, optimiser, precision, checkpoints, limits."""

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from data_pipeline.base.functions import FUNCTION_NAME
from data_pipeline.base.recipes import Recipe, wrong_together
from data_pipeline.loading import order
from pretrain.encoders.compute import Compute
from pretrain.training.loggers import LOGGERS


class Data(Recipe):
    """Where samples come from, and how they are shuffled."""

    shards: Path
    """Directory made by `python -m data_pipeline build`."""
    window_samples: int | None = Field(None, ge=1)
    """Samples shuffled and bucketed by length at a time. None: 65,536, or 64 global batches where
    that is more: with few batches in a window, most would be of one length each."""
    holdout_samples: int = Field(0, ge=0)
    """Samples that are not trained on, but used to measure the loss; whole relation groups of them.
    They come from the documents that the build held out (SHARDS/holdout, at most as many as are
    there); without such documents they are the last samples of the shards."""
    block_samples: int = Field(1024, ge=1)
    """Consecutive samples that are read in one go."""
    workers: int = Field(2, ge=0)
    """Threads that read and pad ahead."""
    one_reader_per_node: bool = True
    """Of the ranks of a machine one reads and decompresses the shards, and the others map its
    memory. The samples are the same."""


class Batch(Recipe):
    """Sizes of what one optimiser step trains on."""

    global_batch_size: int = Field(1024, ge=1)
    """Samples of one optimiser step over all ranks and accumulation steps."""
    relation_group_size: int = Field(128, ge=1)
    """Samples that are related to each other; part of the objective, not of the hardware."""
    groups_per_micro_batch: int = Field(1, ge=1)
    """Relation groups that go through a device at a time; the rest is gradient accumulation."""

    @model_validator(mode="after")
    def _whole_groups(self):
        problem = order.share_problem(self.global_batch_size, self.relation_group_size)
        if problem:
            raise wrong_together(" ".join(problem), "global_batch_size", "relation_group_size")
        return self


class Clip(Recipe):
    """Gradient clipping."""

    by: Literal["global_norm", "norm", "value", "none"] = "global_norm"
    """Of all gradients together, of each tensor, of each element, or not at all."""
    limit: float = Field(1.0, gt=0)
    """The norm or the value."""


class Optimizer(Recipe):
    """AdamW with linear warm-up and linear decay to 0."""

    learning_rate: float = Field(6e-4, gt=0)
    """Peak."""
    warmup_steps: int = Field(4000, ge=0)
    """Optimiser steps until the peak."""
    total_steps: int = Field(400000, ge=1)
    """Optimiser steps of the run."""
    weight_decay: float = Field(0.01, ge=0)
    """Not applied to biases and layer norms."""
    beta1: float = Field(0.9, ge=0, lt=1)
    """Decay of the first moment."""
    beta2: float = Field(0.999, ge=0, lt=1)
    """Decay of the second moment."""
    epsilon: float = Field(1e-8, gt=0)
    """Added to the root of the second moment."""
    clip: Clip = Clip()
    """Gradient clipping."""
    sharded: bool = False
    """Each rank holds only the moments of its share of the weights (ZeRO stage 1,
    https://arxiv.org/abs/1910.02054); the update is the same to the bit."""

    @model_validator(mode="after")
    def _warmup_ends(self):
        if self.warmup_steps >= self.total_steps:
            raise wrong_together(
                f"warmup_steps {self.warmup_steps} leaves nothing of "
                f"total_steps {self.total_steps}",
                "warmup_steps",
                "total_steps",
            )
        return self


class Precision(Recipe):
    """Number formats. Relations and losses are always float32."""

    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Of the student's matrix products, layer norms, GELU and softmax, and of all of the teacher.
    Weights and moments are float32. On a CPU, Paddle ignores anything but float32."""
    tf32: bool = False
    """Whether a GPU may compute float32 products, those of relations too, with the 10 bits of TF32.
    Paddle's own default is yes."""
    initial_loss_scale: float = Field(32768.0, ge=1)
    """For float16."""


class Checkpoint(Recipe):
    """When the run is saved, and which checkpoints are retained."""

    every_steps: int = Field(1000, ge=1)
    """Optimiser steps between checkpoints; the last step is always saved."""
    async_mode: Literal["disabled", "async"] = "disabled"
    """`async`: training goes on while a checkpoint is written, which takes host memory of its size.
    A crash may then cost the steps of one more checkpoint. Name and default as in torchtitan."""
    keep_last: int = Field(2, ge=1)
    """Newest checkpoints that are retained."""
    keep_every: int = Field(0, ge=0)
    """Multiples of this step are never removed; 0 for none."""


class Monitor(Recipe):
    """What is recorded during training."""

    log_every_steps: int = Field(20, ge=1)
    """Optimiser steps between records in metrics.jsonl and the loggers."""
    holdout_every_steps: int = Field(1000, ge=1)
    """Optimiser steps between measurements of the loss on `data.holdout_samples`, without dropout;
    also after the last step."""
    loggers: tuple[str, ...] = ("visualdl",)
    """Where curves are drawn besides metrics.jsonl: `visualdl`, `tensorboard` (needs tensorboardX),
    `wandb`, or `package.module:function` for one of your own; see `pretrain.training.loggers`."""

    @field_validator("loggers")
    @classmethod
    def _known_loggers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in LOGGERS and not re.fullmatch(FUNCTION_NAME, name):
                names = ", ".join(LOGGERS)
                raise ValueError(f"{name!r} is none of {names}, and not package.module:function")
        return value


class Safety(Recipe):
    """When to stop with an error."""

    max_skipped_steps: int = Field(20, ge=1)
    """Steps in a row with a non-finite gradient, after which the run stops."""
    stop_vote_steps: int = Field(1, ge=1)
    """Every so many steps the ranks exchange whether one wants to stop, after SIGTERM or because it
    cannot write. So many steps must be shorter than the time between SIGTERM and SIGKILL."""
    hang_seconds: float = Field(1800, gt=0)
    """A step longer than this ends the rank with the stacks of all its threads."""
    hang_factor: float = Field(20, ge=2)
    """So does, from the fourth step on, one longer than this many times the slowest so far and
    longer than 300 s."""


class TrainingRecipe(Recipe):
    """What every training run has."""

    output_dir: Path
    """Directory of the run: checkpoints, metrics, curves."""
    seed: int = Field(2021, ge=0, lt=2**32)
    """Of weights, order and dropout."""
    init_from: Path | None = None
    """Weights to start from with a fresh schedule: a checkpoint (`RUN/checkpoints/step-N`), a
    release or another encoder directory of the same sizes. None: fresh weights."""
    data: Data
    """Shards and shuffling."""
    batch: Batch = Batch()
    """Sizes of a step."""
    optimizer: Optimizer = Optimizer()
    """How weights are updated."""
    precision: Precision = Precision()
    """Number formats."""
    compute: Compute = Compute()
    """How layers are computed."""
    checkpoint: Checkpoint = Checkpoint()
    """Saving."""
    monitor: Monitor = Monitor()
    """Logging."""
    safety: Safety = Safety()
    """Limits after which the run stops."""

    def window_samples(self) -> int:
        """`data.window_samples`, or what takes its place."""
        return self.data.window_samples or max(65536, 64 * self.batch.global_batch_size)

    def ranks_per_group(self, world_size: int) -> int:
        """Ranks that share a relation group, of `world_size` in all."""
        groups = self.batch.global_batch_size // self.batch.relation_group_size
        return order.ranks_per_group(groups, world_size)

    def products(self) -> tuple[Path, ...]:
        """Files outside `output_dir` that a finished run has written."""
        return ()
