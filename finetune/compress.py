"""One recipe through every stage: fine-tune, prune, quantise, export, report.

Each stage is its own directory under `output_dir` and is made once, so an interrupted run goes on
where it stopped and a changed setting redoes only what depends on it.
"""

import shutil
import sys
from pathlib import Path

from finetune import stages
from finetune.settings import (
    CompressRecipe,
    ExportRecipe,
    PruneRecipe,
    QuantiseRecipe,
    ReportRecipe,
    TrainRecipe,
)


def run(recipe: CompressRecipe) -> dict:
    """Every stage in order; returns what was made and what to look at."""
    out = recipe.output_dir
    models: dict[str, Path] = {}
    for name, encoder in {**recipe.references, "student": recipe.student}.items():
        models[name] = _exported(recipe, name, _trained(recipe, name, encoder))
    if recipe.prune:
        settings = PruneRecipe(
            output_dir=out / "prune",
            classifier=out / "train" / "student",
            task=recipe.task,
            prune=recipe.prune,
        )
        for directory in stages.prune(settings):
            name = f"student {directory.name}"
            models[name] = _exported(recipe, name.replace(" ", "-"), directory)
    if recipe.quantise:
        for name in [name for name in models if name.startswith("student")]:
            models[f"{name} int8"] = stages.quantise(
                QuantiseRecipe(
                    output_dir=out / "int8" / models[name].name,
                    model=models[name],
                    task=recipe.task,
                    quantise=recipe.quantise,
                )
            )
    report = stages.report(
        ReportRecipe(
            output_dir=out / "report", task=recipe.task, models=models, report=recipe.report
        )
    )
    if recipe.report_dir:
        recipe.report_dir.mkdir(parents=True, exist_ok=True)
        for name in ("report.json", "report.png"):
            shutil.copyfile(report / name, recipe.report_dir / name)
    model = list(models.values())[-1]
    _show(list(recipe.examples), model)
    return {"report": str((recipe.report_dir or report) / "report.json"), "model": str(model)}


def _trained(recipe: CompressRecipe, name: str, encoder: Path) -> Path:
    epochs = recipe.reference_epochs.get(name, recipe.train.epochs)
    return stages.train(
        TrainRecipe(
            output_dir=recipe.output_dir / "train" / name,
            encoder=encoder,
            task=recipe.task,
            train=recipe.train.model_copy(update={"epochs": epochs}),
            max_length=recipe.max_length,
        )
    )


def _exported(recipe: CompressRecipe, name: str, classifier: Path) -> Path:
    return stages.export(
        ExportRecipe(output_dir=recipe.output_dir / "export" / name, classifier=classifier)
    )


def _show(texts: list[str], directory: Path) -> None:
    from finetune.predict import Predictor

    if not texts:
        return
    for text, found in zip(texts, Predictor(directory).predict(texts), strict=True):
        print(f"{found.label} ({found.probability:.2f})  {text}", file=sys.stderr)
