"""The stages as functions of their recipes: each makes its directory once and says where it is.

What does the work is imported only when there is work to do: `make(recipe, directory)` of a module.
"""

import importlib
from pathlib import Path

from data_pipeline.base.recipes import Recipe
from finetune import stage
from finetune.recipes import (
    ExportRecipe,
    PruneRecipe,
    QatRecipe,
    QuantiseRecipe,
    ReportRecipe,
    SparseRecipe,
    TrainRecipe,
)
from pretrain.encoders.config import locate, read_config


def train(recipe: TrainRecipe) -> Path:
    """Fine-tune an encoder; the classifier directory."""
    read_config(recipe.encoder)  # says how to get an encoder that is not there
    recipe = recipe.model_copy(update={"encoder": locate(recipe.encoder)})
    inputs = [recipe.encoder] + ([recipe.distil.teacher] if recipe.distil else [])
    return _once("train", "finetune.training.train", recipe, inputs)


def prune(recipe: PruneRecipe) -> list[Path]:
    """Narrower classifiers of a classifier; their directories, widest first."""
    directory = _once("prune", "finetune.prune.joint", recipe, [recipe.classifier])
    widths = sorted(recipe.prune.widths, reverse=True)
    return [directory / f"width-{width:g}" for width in widths]


def sparsify(recipe: SparseRecipe) -> Path:
    """A classifier with single weights at zero; its directory."""
    return _once("sparsify", "finetune.prune.sparse", recipe, [recipe.classifier])


def qat(recipe: QatRecipe) -> Path:
    """A classifier trained for INT8; its directory."""
    return _once("qat", "finetune.quantise.qat", recipe, [recipe.classifier])


def export(recipe: ExportRecipe) -> Path:
    """A static graph of a classifier; the deployable directory."""
    return _once("export", "finetune.deploy.export", recipe, [recipe.classifier])


def quantise(recipe: QuantiseRecipe) -> Path:
    """An INT8 model of an FP32 ONNX one; the deployable directory."""
    return _once("quantise", "finetune.quantise.make", recipe, [recipe.model])


def report(recipe: ReportRecipe) -> Path:
    """Accuracy, latency and size of every model; the directory with report.json."""
    return _once("report", "finetune.report.make", recipe, list(recipe.models.values()))


def _once(name: str, module: str, recipe: Recipe, inputs: list[Path]) -> Path:
    def make(directory: Path) -> None:
        importlib.import_module(module).make(recipe, directory)

    stage.once(name, recipe.output_dir, recipe, inputs, make)
    return recipe.output_dir
