"""The stages as functions of their recipes: each makes its directory once and says where it is.

What does the work is imported only when there is work to do.
"""

from pathlib import Path

from finetune import stage
from finetune.settings import (
    ExportRecipe,
    PruneRecipe,
    QatRecipe,
    QuantiseRecipe,
    ReportRecipe,
    SparseRecipe,
    TrainRecipe,
)


def train(recipe: TrainRecipe) -> Path:
    """Fine-tune an encoder; the classifier directory."""

    def make(directory: Path) -> None:
        from finetune.train import make

        make(recipe, directory)

    inputs = [recipe.encoder] + ([recipe.distil.teacher] if recipe.distil else [])
    stage.once("train", recipe.output_dir, recipe, inputs, make)
    return recipe.output_dir


def prune(recipe: PruneRecipe) -> list[Path]:
    """Narrower classifiers of a classifier; their directories, widest first."""

    def make(directory: Path) -> None:
        from finetune.prune.joint import make

        make(recipe, directory)

    stage.once("prune", recipe.output_dir, recipe, [recipe.classifier], make)
    widths = sorted(recipe.prune.widths, reverse=True)
    return [recipe.output_dir / f"width-{width:g}" for width in widths]


def sparsify(recipe: SparseRecipe) -> Path:
    """A classifier with single weights at zero; its directory."""

    def make(directory: Path) -> None:
        from finetune.prune.sparse import make

        make(recipe, directory)

    stage.once("sparsify", recipe.output_dir, recipe, [recipe.classifier], make)
    return recipe.output_dir


def qat(recipe: QatRecipe) -> Path:
    """A classifier trained for INT8; its directory."""

    def make(directory: Path) -> None:
        from finetune.quantise.qat import make

        make(recipe, directory)

    stage.once("qat", recipe.output_dir, recipe, [recipe.classifier], make)
    return recipe.output_dir


def export(recipe: ExportRecipe) -> Path:
    """A static graph of a classifier; the deployable directory."""

    def make(directory: Path) -> None:
        from finetune.export import make

        make(recipe, directory)

    stage.once("export", recipe.output_dir, recipe, [recipe.classifier], make)
    return recipe.output_dir


def quantise(recipe: QuantiseRecipe) -> Path:
    """An INT8 model of an FP32 ONNX one; the deployable directory."""

    def make(directory: Path) -> None:
        from finetune.quantise.make import make

        make(recipe, directory)

    stage.once("quantise", recipe.output_dir, recipe, [recipe.model], make)
    return recipe.output_dir


def report(recipe: ReportRecipe) -> Path:
    """Accuracy, latency and size of every model; the directory with report.json."""

    def make(directory: Path) -> None:
        from finetune.report.make import make

        make(recipe, directory)

    stage.once("report", recipe.output_dir, recipe, list(recipe.models.values()), make)
    return recipe.output_dir
