"""The sections that the recipes of all commands are put together from."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from data_pipeline.base.recipes import Recipe, one_of, wrong_together
from finetune.deploy.pooling import POOLINGS
from finetune.prune.criteria import CRITERIA, SCOPES, WIDTH_CRITERIA
from finetune.quantise.calibration import METHODS
from finetune.training.scores import ALL_SCORES

LONGEST = 4096  # tokens of a text
MaxLength = Annotated[int, Field(ge=4, le=LONGEST)]  # [CLS], two tokens and [SEP] at least
Epochs = Annotated[float, Field(gt=0, le=1000)]
BatchSize = Annotated[int, Field(ge=1, le=65536)]
LearningRate = Annotated[float, Field(gt=0, le=1)]
Temperature = Annotated[float, Field(gt=0, le=100)]
Share = Annotated[float, Field(ge=0, le=1)]
Width = Annotated[float, Field(gt=0, le=1)]
Threads = Annotated[int, Field(ge=1, le=1024)]


class FitSettings(Recipe):
    """How a model is trained on a task."""

    epochs: Epochs = 3.0
    """Passes over the training data."""
    batch_size: BatchSize = 32
    """Examples in one optimiser step, over all ranks."""
    micro_batch_size: BatchSize | None = None
    """Examples that one rank computes at a time; the gradients of a step's parts add up to those of
    the whole batch. By default all of a rank's share. (With balance_classes, parts count by their
    examples.)"""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Of matrix products, layer norms, GELU and softmax in training on a GPU; weights stay float32,
    and float16 has a loss scale. On a CPU, Paddle ignores anything but float32."""
    learning_rate: LearningRate = 5e-5
    """Highest learning rate; linear warm-up before it, linear decay to 0 after."""
    warmup_share: float = Field(0.1, ge=0, lt=1)
    """Share of all steps that warms up."""
    weight_decay: float = Field(0.01, ge=0, lt=1)
    """AdamW's decay; not on biases and norms."""
    clip_norm: float = Field(1.0, gt=0)
    """Highest global norm of the gradients."""
    evaluate_every: int | None = Field(None, ge=1)
    """Steps between two evaluations on dev; by default twice an epoch."""
    patience: int | None = Field(None, ge=1)
    """Stop after so many evaluations in a row without a new best; never by default."""
    choose_by: Annotated[str, one_of(ALL_SCORES)] | None = None
    """The dev score by which the best weights are chosen; by default the first of the task's kind:
    accuracy, entity_f1 (tokens), pearson (scores) or micro_f1 (several labels)."""
    dropout: float | None = Field(None, ge=0, lt=1)
    """In place of the encoder's own; 0 saves a fifth of the time on a CPU."""
    balance_classes: bool = False
    """Weight each class by the inverse of its share of the training data. Of several labels a text:
    weight a label's positives by the negatives for each."""
    seed: int = Field(1, ge=0)
    """Seed of the order, dropout and fresh weights."""


class DistillSettings(Recipe):
    """Learning from a fine-tuned teacher's logits besides the labels."""

    teacher: Path
    """A classifier directory of the same task."""
    temperature: Temperature = 2.0
    """Softens both distributions."""
    alpha: Share = 0.5
    """Share of the teacher's loss; the labels have the rest."""


class SearchSettings(Recipe):
    """Which values of the training settings are tried."""

    method: Literal["grid", "tpe"] = "grid"
    """Every combination of the values, or Optuna's TPE between their ends, which prunes bad
    trials. TPE takes batch sizes and epochs from the lists as they are."""
    batch_sizes: tuple[BatchSize, ...] = Field((16, 32, 64), min_length=1)
    """Those of the published search."""
    learning_rates: tuple[LearningRate, ...] = Field((3e-5, 5e-5, 1e-4), min_length=1)
    """Those of the published search; TPE searches between the ends, by logarithm."""
    epochs: tuple[Epochs, ...] = ()
    """Passes over the training data; by default those of `train`."""
    alphas: tuple[Share, ...] = ()
    """Shares of the teacher's loss; by default that of `distill`."""
    temperatures: tuple[Temperature, ...] = ()
    """Temperatures of distillation; by default that of `distill`."""
    trials: int = Field(20, ge=1)
    """`tpe`: number of trials in all; raise it to continue a finished search."""
    startup_trials: int = Field(4, ge=1)
    """`tpe`: trials that run to their end before bad ones are pruned."""
    seed: int = Field(1, ge=0)
    """Seed of TPE; that of a trial's weights and order is `train.seed`."""


class WidthSettings(Recipe):
    """Pruning of heads and feed-forward neurons."""

    widths: tuple[Width, ...] = Field((0.75,), min_length=1)
    """Shares of heads and neurons that stay, each a model; all are trained together."""
    criterion: Annotated[str, one_of(WIDTH_CRITERIA)] = "gradient"
    """What ranks heads and neurons: the loss's gradient (DynaBERT), the size of their weights, or
    chance (to compare with)."""
    importance_examples: int = Field(1000, ge=1)
    """Training examples, drawn at random, on which importance is measured."""
    hidden_weight: float = Field(0.1, ge=0)
    """Weight of the loss on embeddings and hidden states; that on logits has 1."""
    fit: FitSettings = FitSettings(epochs=2, learning_rate=1e-4)
    """How the widths are trained."""


class SparseSettings(Recipe):
    """Pruning of single weights."""

    method: Annotated[str, one_of(CRITERIA)] = "magnitude"
    """By the size of a weight, by where training moves it, or at random (to compare with)."""
    scope: Annotated[str, one_of(SCOPES)] = "local"
    """The same share of every matrix (`local`), of all matrices together (`global`), of each
    layer's matrices (`layer`), whole columns of every matrix (`columns`), or 2 of every 4 weights
    (`2:4`, at sparsity 0.5)."""
    sparsity: float = Field(0.5, gt=0, lt=1)
    """Share of zeros at the end."""
    begin_share: float = Field(0.1, ge=0, lt=1)
    """Share of the steps before pruning begins."""
    end_share: float = Field(0.7, gt=0, le=1)
    """Share of the steps after which the target is reached."""
    every: int = Field(10, ge=1)
    """Steps between two choices of the pruned weights."""
    score_learning_rate: float = Field(1e-2, gt=0)
    """`movement`: highest learning rate of the scores; linear decay to 0."""
    fit: FitSettings = FitSettings(epochs=3, learning_rate=1e-4)
    """How the other weights are trained meanwhile."""

    @model_validator(mode="after")
    def _shares_are_in_order(self):
        if self.begin_share >= self.end_share:
            raise wrong_together(
                f"begin_share {self.begin_share:g} must be less than end_share {self.end_share:g}",
                "begin_share",
                "end_share",
            )
        if self.scope == "2:4" and self.sparsity > 0.5:
            raise wrong_together(
                f"sparsity {self.sparsity:g} is more than 0.5, which scope 2:4 gives at most",
                "scope",
                "sparsity",
            )
        return self


class InferenceSettings(Recipe):
    """How an exported graph is run; stored with the graph."""

    device: Literal["cpu", "gpu"] = "cpu"
    """`gpu` needs Paddle's GPU build for `format: paddle`, and the package onnxruntime-gpu (for its
    CUDA provider) for `format: onnx`."""
    runtime: Literal["onnxruntime", "openvino"] | None = None
    """`onnx`: what computes it, by default onnxruntime. On a processor with VNNI, openvino is 1.3
    times as fast in INT8 (docs/speed.md)."""
    bfloat16: bool = False
    """`paddle` on a CPU, and `onnx` in openvino: what is not INT8 is computed in bfloat16 where the
    CPU has it: 3 digits, and about twice as fast in a model that is not INT8."""
    memory_mb: int = Field(512, ge=1)
    """`paddle` on a GPU: memory taken at the start."""

    @model_validator(mode="after")
    def _runtime_has_the_device(self):
        if self.runtime == "openvino" and self.device == "gpu":
            raise wrong_together("runtime: openvino is for device: cpu", "runtime", "device")
        return self


class EmbeddingSettings(Recipe):
    """How an encoder gives one vector a text."""

    pooling: Annotated[str, one_of(POOLINGS)] = "mean"
    """The mean over all tokens of the text, or the state of [CLS]."""
    normalise: bool = True
    """Whether vectors have length 1, so that their products are cosines."""
    max_length: MaxLength = 128
    """Tokens of a text, longer ones are cut."""

    @property
    def in_words(self) -> str:
        """For messages."""
        return ", ".join(f"{name} {value}" for name, value in self.model_dump().items())


class QuantiseSettings(Recipe):
    """How weights and activations become 8-bit numbers."""

    mode: Literal["static", "dynamic", "qat"] = "dynamic"
    """Activation ranges: from calibration, computed in every call, or trained."""
    calibration: Annotated[str, one_of(METHODS)] = "mse"
    """`static`: how a range is chosen from the values in calibration batches."""
    percentile: float = Field(99.99, gt=50, le=100)
    """`hist`: share of values, in percent, that the range holds."""
    batches: int = Field(16, ge=4, le=64)
    """Calibration batches, from the training data."""
    batch_size: int = Field(16, ge=1)
    """Examples in one of them."""
    per_channel: bool = True
    """A scale for every output column of a weight rather than one for the whole."""
    weight_peak: Literal["auto", 127, 64] = "auto"
    """Largest absolute INT8 weight. Processors without VNNI overflow above 64; `auto` is 127 where
    this machine has such an instruction. A model for other processors needs 64."""
    allowed_drop: float | None = Field(1.0, ge=0)
    """Points that INT8 may lose on dev; a model that loses more is refused."""
    choose_by: Annotated[str, one_of(ALL_SCORES)] | None = None
    """The dev score that `allowed_drop` is about; by default the task's first score."""


class ReportSettings(Recipe):
    """What is measured."""

    repeats: int = Field(50, ge=1)
    """Timed calls of one text."""
    batch_repeats: int = Field(10, ge=1)
    """Timed calls of a larger batch."""
    batch_sizes: tuple[BatchSize, ...] = Field((1, 32), min_length=1)
    """Texts in one call."""
    padded_length: int = Field(128, ge=8)
    """Besides real lengths, every text padded to so many tokens."""
    threads: tuple[Threads, ...] = Field((1, 2), min_length=1)
    """Of one call; the last is that of the headline figure."""
    baseline: str | None = None
    """Name of the model that the others' gains are measured against; none: no gains."""


class TeacherSettings(Recipe):
    """Learning from the logits of one of a compress recipe's references."""

    reference: str
    """Its name among `references`."""
    temperature: Temperature = 2.0
    """Softens both distributions."""
    alpha: Share = 0.5
    """Share of the teacher's loss; the labels have the rest."""


class BudgetSettings(Recipe):
    """What the product may take; the most accurate form within it is chosen."""

    latency_ms: float | None = Field(None, gt=0)
    """Median latency of the smallest of `report.batch_sizes` at real lengths, with the last of
    `report.threads`, on this machine."""
    size_mb: float | None = Field(None, gt=0)
    """Graph and weights, in 10^6 bytes."""
    widths: tuple[Width, ...] = Field((0.75, 0.5, 0.25), min_length=1)
    """Widths that may be made, besides the whole student."""

    @model_validator(mode="after")
    def _something_is_limited(self):
        if self.latency_ms is None and self.size_mb is None:
            raise wrong_together("one of latency_ms and size_mb is needed", "latency_ms", "size_mb")
        return self

    def fits(self, latency_ms: float, size_mb: float) -> bool:
        """Whether a form is within the budget."""
        limits = ((latency_ms, self.latency_ms), (size_mb, self.size_mb))
        return all(limit is None or value <= limit for value, limit in limits)

    @property
    def in_words(self) -> str:
        """For sentences."""
        limits = ((self.latency_ms, "ms"), (self.size_mb, "MB"))
        return " and ".join(f"{limit:g} {unit}" for limit, unit in limits if limit is not None)


class ChooseSettings(Recipe):
    """Which of the student's forms is the product."""

    allowed_loss: float = Field(1.0, ge=0)
    """Points on dev that the fastest form may lose against the unpruned FP32 student."""
    choose_by: Annotated[str, one_of(ALL_SCORES)] | None = None
    """The dev score that `allowed_loss` is about; by default that of `train`."""
