"""The stages as functions of their recipes: each writes its output directory and returns its path.

A directory that was made by the same settings from the same inputs is left as it is. What does the
work is imported only when there is work to do. On several ranks those stages that train do it on
all of them; the others are done by the first rank.
"""

from pathlib import Path

from finetune.recipes import (
    ExportRecipe,
    PruneRecipe,
    QatRecipe,
    QuantiseRecipe,
    ReportRecipe,
    SparseRecipe,
    SweepRecipe,
    TextInRecipe,
    TrainRecipe,
)
from finetune.training.output import Input, make_once
from pretrain.encoders.config import locate, read_config


def train(recipe: TrainRecipe) -> Path:
    """Fine-tune an encoder; the classifier directory."""
    read_config(recipe.encoder)  # the error says how to get an encoder that is missing
    recipe = recipe.model_copy(update={"encoder": locate(recipe.encoder)})
    inputs: list[Input] = [recipe.encoder, recipe.task]
    if recipe.distill:
        inputs.append(recipe.distill.teacher)

    def write(directory: Path) -> None:
        from finetune.training.train import train_classifier

        train_classifier(recipe, directory)

    return make_once("train", recipe.output_dir, recipe, inputs, write, on_all_ranks=True)


def prune(recipe: PruneRecipe) -> list[Path]:
    """Narrower classifiers of a classifier; their directories, widest first."""

    def write(directory: Path) -> None:
        from finetune.prune.joint import prune_widths

        prune_widths(recipe, directory)

    inputs: list[Input] = [recipe.classifier, recipe.task]
    directory = make_once("prune", recipe.output_dir, recipe, inputs, write, on_all_ranks=True)
    widths = sorted(recipe.prune.widths, reverse=True)
    return [directory / f"width-{width:g}" for width in widths]


def sparsify(recipe: SparseRecipe) -> Path:
    """A classifier with single weights at zero; its directory."""

    def write(directory: Path) -> None:
        from finetune.prune.sparse import sparsify_classifier

        sparsify_classifier(recipe, directory)

    inputs: list[Input] = [recipe.classifier, recipe.task]
    if recipe.distill:
        inputs.append(recipe.distill.teacher)
    return make_once("sparsify", recipe.output_dir, recipe, inputs, write, on_all_ranks=True)


def qat(recipe: QatRecipe) -> Path:
    """A classifier trained for INT8; its directory."""

    def write(directory: Path) -> None:
        from finetune.quantise.qat import train_for_int8

        train_for_int8(recipe, directory)

    inputs: list[Input] = [recipe.classifier, recipe.task]
    return make_once("qat", recipe.output_dir, recipe, inputs, write, on_all_ranks=True)


def export(recipe: ExportRecipe) -> Path:
    """A static graph of a classifier or an encoder; the deployable directory."""

    def write(directory: Path) -> None:
        from finetune.deploy.export import export_model

        export_model(recipe, directory)

    return make_once("export", recipe.output_dir, recipe, [recipe.model], write)


def text_in(recipe: TextInRecipe) -> Path:
    """A graph that takes strings, of an exported or INT8 model; the directory with text.onnx."""

    def write(directory: Path) -> None:
        from finetune.deploy.text_in import write_text_in

        write_text_in(recipe, directory)

    return make_once("text_in", recipe.output_dir, recipe, [recipe.model], write)


def quantise(recipe: QuantiseRecipe) -> Path:
    """An INT8 model of an FP32 ONNX one; the deployable directory."""

    def write(directory: Path) -> None:
        from finetune.quantise.quantise import quantise_model

        quantise_model(recipe, directory)

    inputs: list[Input] = [recipe.model, recipe.task]
    return make_once("quantise", recipe.output_dir, recipe, inputs, write)


def sweep(recipe: SweepRecipe) -> Path:
    """What INT8 loses with every calibration; the directory with sweep.json and sweep.md."""

    def write(directory: Path) -> None:
        from finetune.quantise.sweep import sweep_calibration

        sweep_calibration(recipe, directory)

    inputs: list[Input] = [recipe.model, recipe.task]
    return make_once("sweep", recipe.output_dir, recipe, inputs, write)


def report(recipe: ReportRecipe) -> Path:
    """Accuracy, latency and size of every model; the directory with report.json."""

    def write(directory: Path) -> None:
        from finetune.report.write import write_report

        write_report(recipe, directory)

    inputs: list[Input] = [*recipe.models.values(), recipe.task]
    return make_once("report", recipe.output_dir, recipe, inputs, write)
