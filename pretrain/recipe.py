"""The typed recipes of a run: distillation, and masked-language-model pre-training."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from data_pipeline.base.recipes import Recipe, wrong_together


class Data(Recipe):
    """Where samples come from, and how they are shuffled."""

    shards: Path
    """Directory made by `python -m data_pipeline build`."""
    window_samples: int = Field(65536, ge=1)
    """Samples shuffled and bucketed by length at a time."""
    block_samples: int = Field(1024, ge=1)
    """Consecutive samples that are read in one go."""
    workers: int = Field(2, ge=0)
    """Threads that read and pad ahead."""


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
        if self.relation_group_size > self.global_batch_size:
            raise wrong_together(
                f"relation_group_size {self.relation_group_size} is more than the whole "
                f"global_batch_size {self.global_batch_size}",
                "global_batch_size",
                "relation_group_size",
            )
        if self.global_batch_size % self.relation_group_size:
            raise wrong_together(
                f"global_batch_size {self.global_batch_size} is not a multiple of "
                f"relation_group_size {self.relation_group_size}",
                "global_batch_size",
                "relation_group_size",
            )
        return self


class EncoderSizes(Recipe):
    """The shape of an encoder."""

    num_hidden_layers: int = Field(6, ge=1)
    """Layers."""
    hidden_size: int = Field(768, ge=1)
    """Width."""
    num_attention_heads: int = Field(12, ge=1)
    """Heads; they divide the width."""
    intermediate_size: int = Field(3072, ge=1)
    """Width of the feed-forward."""
    hidden_act: Literal["relu", "gelu"] = "relu"
    """Activation of the feed-forward; the published student uses ReLU."""
    hidden_dropout_prob: float = Field(0.1, ge=0, lt=1)
    """Dropout after embeddings and sublayers."""
    attention_probs_dropout_prob: float = Field(0.1, ge=0, lt=1)
    """Dropout of attention weights."""
    max_position_embeddings: int = Field(512, ge=1)
    """Longest input."""
    initializer_range: float = Field(0.02, gt=0)
    """Standard deviation of fresh weights."""

    @model_validator(mode="after")
    def _heads_divide(self):
        if self.hidden_size % self.num_attention_heads:
            raise wrong_together(
                f"hidden_size {self.hidden_size} is not a multiple of "
                f"num_attention_heads {self.num_attention_heads}",
                "hidden_size",
                "num_attention_heads",
            )
        return self


class Teacher(Recipe):
    """The frozen encoder that is learned from."""

    path: str
    """Directory with config.json, model.safetensors and vocab.txt, or a name that PaddleNLP keeps
    such a directory under."""
    weights: str = "model.safetensors"
    """File of the weights. A pickle (model_state.pdparams) is read only if it is named here, and
    then nothing but plain arrays is taken from it."""
    layer: int = Field(ge=1)
    """Layer whose Q, K and V are learned, counted from 1 (20 of 24 in the published recipe)."""
    engine: Literal["dynamic", "static", "onnx", "onnx_int8"] = "dynamic"
    """What runs it: Paddle, Paddle's compiled graph, or ONNX Runtime on the CPU, which is the
    fastest there. All but onnx_int8 compute the same numbers; how far off INT8 relations are is
    said at the start, and logged."""


class Student(EncoderSizes):
    """The encoder that learns."""

    layer: int = Field(6, ge=1)
    """Layer whose Q, K and V learn, counted from 1."""
    from_teacher_layers: tuple[int, ...] = ()
    """Teacher layers (from 1) that the student's layers start from; empty: from scratch."""

    @model_validator(mode="after")
    def _layers_there(self):
        if self.layer > self.num_hidden_layers:
            raise wrong_together(
                f"layer {self.layer} is not there: num_hidden_layers is {self.num_hidden_layers}",
                "layer",
                "num_hidden_layers",
            )
        if self.from_teacher_layers and len(self.from_teacher_layers) != self.num_hidden_layers:
            raise wrong_together(
                f"from_teacher_layers names {len(self.from_teacher_layers)} layers, "
                f"num_hidden_layers is {self.num_hidden_layers}",
                "from_teacher_layers",
                "num_hidden_layers",
            )
        return self


class Relations(Recipe):
    """What is compared between teacher and student."""

    heads: int = Field(64, ge=1)
    """Relation heads R: 64 for a large teacher, 48 for a base one."""
    alpha: float = Field(0.0, ge=0, le=1)
    """Weight of the relation between heads."""
    beta: float = Field(1.0, ge=0, le=1)
    """Weight of the relation between samples; the rest goes to the relation between tokens."""
    hidden: float = Field(0.0, ge=0)
    """Weight of a fourth relation H, of what the layers put out, beside 1 each for Q, K and V. It
    trains the part of the student's layer that they do not reach; 0 in the published recipe."""

    @model_validator(mode="after")
    def _weights(self):
        if self.alpha + self.beta > 1:
            raise wrong_together(
                f"alpha + beta is {self.alpha + self.beta}; it may be at most 1", "alpha", "beta"
            )
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
    """Each rank keeps the moments of its share of the weights alone (ZeRO stage 1,
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
    """Number formats. Relations and losses are float32 whatever is said here."""

    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Of the matrix products. On a CPU, Paddle ignores anything but float32."""
    level: Literal["O1", "O2"] = "O1"
    """O1: what Paddle lists as safe runs in `dtype`; O2: all but what it lists as unsafe. Weights
    and moments are float32 in both: a small student has nothing to gain from two copies."""
    initial_loss_scale: float = Field(32768.0, ge=1)
    """For float16."""


class Checkpoint(Recipe):
    """When the run is saved, and what is kept."""

    every_steps: int = Field(1000, ge=1)
    """Optimiser steps between checkpoints; the last step is always saved."""
    keep_last: int = Field(2, ge=1)
    """Newest checkpoints that are kept."""
    keep_every: int = Field(0, ge=0)
    """Steps whose multiples are kept for good; 0 for none."""


class Monitor(Recipe):
    """What is written down on the way."""

    log_every_steps: int = Field(20, ge=1)
    """Optimiser steps between records in metrics.jsonl and VisualDL."""


class Safety(Recipe):
    """When to give up."""

    max_skipped_steps: int = Field(20, ge=1)
    """Steps in a row with a non-finite gradient, after which the run stops."""
    hang_seconds: float = Field(1800, gt=0)
    """A step longer than this ends the rank with the stacks of all its threads."""


class Run(Recipe):
    """What every training run has."""

    output_dir: Path
    """Directory of the run: checkpoints, metrics, curves."""
    seed: int = Field(2021, ge=0, lt=2**32)
    """Of weights, order and dropout."""
    data: Data
    """Shards and shuffling."""
    batch: Batch = Batch()
    """Sizes of a step."""
    optimizer: Optimizer = Optimizer()
    """How weights are updated."""
    precision: Precision = Precision()
    """Number formats."""
    checkpoint: Checkpoint = Checkpoint()
    """Saving."""
    monitor: Monitor = Monitor()
    """Logging."""
    safety: Safety = Safety()
    """Limits after which the run stops."""


class DistillRecipe(Run):
    """Teacher to student."""

    teacher: Teacher
    """The frozen encoder."""
    student: Student = Student()
    """The small one."""
    relations: Relations = Relations()
    """The losses."""


class Masking(Recipe):
    """Whole-word masking (RoBERTa-wwm, https://arxiv.org/abs/1906.08101)."""

    share: float = Field(0.15, gt=0, lt=1)
    """Of the tokens, whole words at a time."""
    replace_by_mask: float = Field(0.8, ge=0, le=1)
    """Of the chosen tokens, shown as [MASK]."""
    replace_by_random: float = Field(0.1, ge=0, le=1)
    """Of the chosen tokens, shown as some other token; the rest stay as they are."""

    @model_validator(mode="after")
    def _shares(self):
        if self.replace_by_mask + self.replace_by_random > 1:
            raise wrong_together(
                "replace_by_mask and replace_by_random together exceed 1",
                "replace_by_mask",
                "replace_by_random",
            )
        return self


class MaskedLMRecipe(Run):
    """Whole-word-masking pre-training, for a teacher where none can be had."""

    encoder: EncoderSizes = EncoderSizes(hidden_act="gelu", num_hidden_layers=12)
    """The encoder that is trained: a BERT of these sizes."""
    masking: Masking = Masking()
    """What is hidden."""
    model_dir: Path
    """Where the finished encoder is written, in the form that a teacher has."""
