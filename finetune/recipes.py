"""The typed recipe of every command."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from data_pipeline.base.recipes import Recipe, one_of, wrong_together
from finetune.deploy.formats import FORMATS
from finetune.quantise.calibration import METHODS
from finetune.settings import (
    BudgetSettings,
    ChooseSettings,
    DistillSettings,
    EmbeddingSettings,
    Epochs,
    FitSettings,
    InferenceSettings,
    MaxLength,
    QuantiseSettings,
    ReportSettings,
    SearchSettings,
    SparseSettings,
    TeacherSettings,
    Threads,
    WidthSettings,
)
from finetune.tasks.clue import FORMATS as CLUE_TASKS
from finetune.tasks.settings import TaskSettings
from finetune.training.scores import ALL_SCORES

# The name becomes a directory's.
ReferenceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]


def check_inference(settings: InferenceSettings, form: str) -> None:
    """An error of the sections `inference` and `format` when that format is not run so."""
    runtimes = FORMATS[form].backends
    if settings.runtime not in (None, *runtimes):
        raise wrong_together(
            f"inference.runtime: format: {form} is run by {' or '.join(runtimes)}, "
            f"not {settings.runtime}",
            "inference",
            "format",
        )
    has_bfloat16 = form == "paddle" or settings.runtime == "openvino"
    if settings.bfloat16 and (not has_bfloat16 or settings.device != "cpu"):
        raise wrong_together(
            "inference.bfloat16 is for format: paddle, or runtime: openvino, on a CPU",
            "inference",
            "format",
        )


class TrainRecipe(Recipe):
    """`python -m finetune train`."""

    output_dir: Path
    """The classifier directory to write."""
    encoder: Path
    """A released encoder or a teacher's directory."""
    weights: str = "model.safetensors"
    """The encoder's file of weights. A pickle (model_state.pdparams) is read only if it is named
    here, and nothing but plain arrays is taken from it."""
    task: TaskSettings
    """What to learn."""
    train: FitSettings = FitSettings()
    """How."""
    max_length: MaxLength | None = None
    """Tokens of each example, longer ones are cut; the task's own by default."""
    distill: DistillSettings | None = None
    """Optional teacher."""


class SearchRecipe(Recipe):
    """`python -m finetune search`."""

    output_dir: Path
    """Receives study.db, search.json, plots and best/, a classifier directory."""
    encoder: Path
    """A released encoder or a teacher's directory."""
    weights: str = "model.safetensors"
    """The encoder's file of weights. A pickle (model_state.pdparams) is read only if it is named
    here, and nothing but plain arrays is taken from it."""
    task: TaskSettings
    """What to learn."""
    train: FitSettings = FitSettings()
    """Everything that is not searched."""
    max_length: MaxLength | None = None
    """Tokens of each example, longer ones are cut; the task's own by default."""
    distill: DistillSettings | None = None
    """Optional teacher."""
    search: SearchSettings = SearchSettings()
    """What is searched, and how."""

    @model_validator(mode="after")
    def _distillation_has_a_teacher(self):
        if self.distill is None and (self.search.alphas or self.search.temperatures):
            raise wrong_together(
                "search.alphas and search.temperatures need the section distill",
                "search",
                "distill",
            )
        return self


class ClueRecipe(Recipe):
    """`python -m finetune clue`."""

    output_dir: Path
    """Receives clue.json, clue.md and a folder a task, with its search, row and submission."""
    encoder: Path
    """A released encoder or a teacher's directory."""
    weights: str = "model.safetensors"
    """The encoder's file of weights, see `train`."""
    directory: Path
    """Holds a folder for each task, the unpacked official archive: afqmc, tnews, ..."""
    tasks: tuple[Annotated[str, one_of(CLUE_TASKS)], ...] = Field(tuple(CLUE_TASKS), min_length=1)
    """Which tasks; the averages need all seven."""
    train: FitSettings = FitSettings()
    """Everything that is not searched; `epochs` are those of each task."""
    search: SearchSettings = SearchSettings()
    """The grid; by default the published one."""
    epochs: dict[Annotated[str, one_of(CLUE_TASKS)], Epochs] = Field(default_factory=dict)
    """Other numbers of epochs than the published ones: 3 for afqmc, tnews and cmnli, 6 for iflytek
    and ocnli, 50 for cluewsc2020, 8 for csl."""
    max_lengths: dict[Annotated[str, one_of(CLUE_TASKS)], MaxLength] = Field(default_factory=dict)
    """Other lengths than the published ones: 256 for csl, 128 for the others."""


class PruneRecipe(Recipe):
    """`python -m finetune prune`."""

    output_dir: Path
    """Receives one classifier directory per width: width-0.75, ..."""
    classifier: Path
    """The fine-tuned classifier to make smaller; it is also the teacher."""
    task: TaskSettings
    """The task that it was fine-tuned on."""
    prune: WidthSettings = WidthSettings()
    """Which widths, and how they are trained."""


class SparseRecipe(Recipe):
    """`python -m finetune sparsify`."""

    output_dir: Path
    """The classifier directory to write."""
    classifier: Path
    """The fine-tuned classifier to make sparse."""
    task: TaskSettings
    """The task that it was fine-tuned on."""
    sparse: SparseSettings = SparseSettings()
    """How."""
    distill: DistillSettings | None = None
    """Optional teacher, for example the classifier itself."""


class ExportRecipe(Recipe):
    """`python -m finetune export`."""

    output_dir: Path
    """The deployable directory to write."""
    classifier: Path | None = None
    """A classifier directory, pruned or not."""
    encoder: Path | None = None
    """Or an encoder directory, whose sentence embeddings are exported."""
    embedding: EmbeddingSettings = EmbeddingSettings()
    """`encoder`: how it gives one vector a text."""
    format: Annotated[str, one_of(FORMATS)] = "onnx"
    """`onnx` for ONNX Runtime, `paddle` for Paddle Inference, `hf` for transformers."""
    inference: InferenceSettings = InferenceSettings()
    """How it is run."""
    check_tolerance: float = Field(1e-3, gt=0)
    """Highest allowed difference from the outputs before the export."""

    @model_validator(mode="after")
    def _one_model(self):
        if (self.classifier is None) == (self.encoder is None):
            raise wrong_together("one of classifier and encoder is needed", "classifier", "encoder")
        if self.encoder is not None and self.format == "hf":
            raise wrong_together(
                "format: hf is for classifiers; `python -m pretrain release --format hf` writes an "
                "encoder for transformers and sentence-transformers",
                "encoder",
                "format",
            )
        return self

    @model_validator(mode="after")
    def _graph_runs_so(self):
        check_inference(self.inference, self.format)
        if self.inference.device == "gpu" and self.format == "hf":
            raise wrong_together(
                "inference.device is for exported graphs; format: hf has none",
                "inference",
                "format",
            )
        return self

    @property
    def model(self) -> Path:
        """The directory that is exported."""
        path = self.classifier or self.encoder
        assert path is not None  # one of the two is given
        return path


class TextInRecipe(Recipe):
    """`python -m finetune text_in`: one ONNX file that takes strings."""

    output_dir: Path
    """Receives text.onnx."""
    model: Path
    """A deployable directory in ONNX format, FP32 or INT8."""
    pairs: bool = False
    """Whether the graph takes `pair` besides `text`."""
    check_tolerance: float = Field(1e-4, gt=0)
    """Highest allowed difference from the outputs of `model`."""


class QuantiseRecipe(Recipe):
    """`python -m finetune quantise`."""

    output_dir: Path
    """The deployable INT8 directory to write."""
    model: Path
    """A deployable FP32 directory in ONNX format, as `export` writes it."""
    task: TaskSettings
    """Whose dev examples judge the result."""
    quantise: QuantiseSettings = QuantiseSettings()
    """How."""


class SweepRecipe(Recipe):
    """`python -m finetune sweep`."""

    output_dir: Path
    """Receives sweep.json and sweep.md, a table."""
    model: Path
    """A deployable FP32 directory in ONNX format, as `export` writes it."""
    task: TaskSettings
    """Its training examples calibrate, its dev examples judge."""
    methods: tuple[Annotated[str, one_of(METHODS)], ...] = Field(tuple(METHODS), min_length=1)
    """Calibration methods."""
    batches: tuple[Annotated[int, Field(ge=1, le=1024)], ...] = Field((4, 16, 64), min_length=1)
    """Numbers of calibration batches."""
    quantise: QuantiseSettings = QuantiseSettings(mode="static")
    """Everything else."""


class QatRecipe(Recipe):
    """`python -m finetune qat`: train for INT8 before `export` and `quantise`."""

    output_dir: Path
    """The classifier directory to write, with activation_scales.json."""
    classifier: Path
    """The fine-tuned classifier to start from."""
    task: TaskSettings
    """The task that it was fine-tuned on."""
    qat: FitSettings = FitSettings(epochs=1, learning_rate=2e-5)
    """How it is trained."""


class ReportRecipe(Recipe):
    """`python -m finetune report`."""

    output_dir: Path
    """Receives report.json and report.png."""
    task: TaskSettings
    """Its test examples (dev where test has no labels) give the accuracy and the lengths."""
    models: dict[str, Path] = Field(min_length=1)
    """Name to deployable directory; the first is what the others are compared with."""
    choose_by: Annotated[str, one_of(ALL_SCORES)] | None = None
    """The score that intervals, gains and the picture are about; by default the task's first. The
    others are shown too."""
    report: ReportSettings = ReportSettings()
    """What is measured."""


class ServeRecipe(Recipe):
    """`python -m finetune serve`."""

    model: Path
    """A deployable or classifier directory."""
    host: str = "127.0.0.1"
    """Loopback by default: there is no authentication, so put a proxy before anything wider."""
    port: int = Field(8080, ge=0, le=65535)
    """TCP port; 0 takes a free one."""
    threads: Threads = 2
    """Threads of one call of the model."""
    max_batch: int = Field(32, ge=1)
    """Texts in one call."""
    window_ms: float = Field(2.0, ge=0)
    """How long a call waits at most for as many texts as the last one had, while clients share
    calls; a lone one never waits."""
    max_texts: int = Field(64, ge=1)
    """Texts in one request."""
    max_characters: int = Field(10_000, ge=1)
    """Characters of one text."""
    max_body_bytes: int = Field(4 << 20, ge=1)
    """Bytes of one request's body."""
    queue_limit: int = Field(1024, ge=1)
    """Texts that may wait; beyond it the answer is 503."""
    request_seconds: float = Field(10.0, gt=0)
    """Time for a client to send a request; slower ones are answered 408, or disconnected."""
    keep_alive_seconds: int = Field(5, ge=1)
    """Time that a connection may be idle between two requests."""
    stop_seconds: int = Field(30, ge=1)
    """Time to answer the accepted requests when the service is told to stop."""
    access_log: bool = False
    """Print a line a request. It adds a third to the time that a request takes without the model;
    `/metrics` counts requests in any case."""


class CompressRecipe(Recipe):
    """`python -m finetune compress`."""

    output_dir: Path
    """Receives a directory per stage and model."""
    report_dir: Path | None = None
    """Where the report with the choice is written; `output_dir` by default."""
    student: Path
    """The released encoder that becomes the product; without `train`, a classifier directory."""
    references: dict[ReferenceName, Path] = Field(default_factory=dict)
    """Name to encoder directory: fine-tuned and reported for comparison, not compressed."""
    task: TaskSettings
    """What to learn."""
    max_length: MaxLength | None = None
    """Tokens of each example, longer ones are cut; the task's own by default."""
    train: FitSettings | None = FitSettings()
    """Fine-tuning; null: student and references are fine-tuned already."""
    weights: dict[str, str] = Field(default_factory=dict)
    """Files of weights of references (or of `student`) that have no model.safetensors; see
    `train`'s `weights`."""
    reference_epochs: dict[str, Epochs] = Field(default_factory=dict)
    """Other numbers of epochs for some references."""
    distill: TeacherSettings | None = None
    """Optional teacher for the student's fine-tuning."""
    prune: WidthSettings | None = None
    """Optional pruning of heads and neurons."""
    qat: FitSettings | None = None
    """Training for INT8, which `quantise.mode: qat` needs."""
    quantise: QuantiseSettings | None = None
    """Optional INT8."""
    inference: InferenceSettings = InferenceSettings()
    """How all models are run, in the report and by whoever deploys them."""
    report: ReportSettings = ReportSettings()
    """What is measured at the end."""
    choose: ChooseSettings = ChooseSettings()
    """What the choice at the end allows."""
    budget: BudgetSettings | None = None
    """Optional: widths and INT8 are chosen to fit it, in place of `prune.widths` and of whether
    there is `quantise`; those sections then say how, if they are there."""
    examples: tuple[str, ...] = ()
    """Sentences that the chosen model classifies at the end, for the reader to judge."""

    @model_validator(mode="after")
    def _graphs_run_so(self):
        check_inference(self.inference, "onnx")
        return self

    @model_validator(mode="after")
    def _sections_fit(self):
        if self.distill and self.distill.reference not in self.references:
            raise wrong_together(
                f"distill.reference: {self.distill.reference!r} is not among references "
                f"({', '.join(self.references) or 'none'})",
                "distill",
                "references",
            )
        if self.quantise and (self.quantise.mode == "qat") != (self.qat is not None):
            raise wrong_together(
                "quantise.mode: qat and the section qat go together", "quantise", "qat"
            )
        if self.report.baseline and self.report.baseline not in self.references:
            raise wrong_together(
                f"report.baseline: {self.report.baseline!r} is not among references "
                f"({', '.join(self.references) or 'none'})",
                "report",
                "references",
            )
        for name in self.references:
            if name == "student" or name.startswith("student-"):
                raise wrong_together(
                    f"references: {name!r} is the name of the student itself or of one of its "
                    "forms",
                    "references",
                )
        if unknown := sorted(set(self.reference_epochs) - set(self.references)):
            raise wrong_together(
                f"reference_epochs: {unknown[0]!r} is not among references",
                "reference_epochs",
                "references",
            )
        return self
