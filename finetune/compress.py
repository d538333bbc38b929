"""One recipe through every stage: fine-tune, prune, quantise, export, report, choose.

With a budget, `budget.py` decides which widths are made and whether INT8 is; else the recipe does.
Each stage has its own directory under `output_dir` and is done once, so an interrupted command
continues where it stopped, and a changed setting repeats only what depends on it.
"""

import json
import shutil
import sys
from pathlib import Path

from data_pipeline.base.errors import UserError
from data_pipeline.base.files import write_json
from finetune import budget, stages
from finetune.quantise.gate import AccuracyLossError
from finetune.recipes import (
    CompressRecipe,
    ExportRecipe,
    PruneRecipe,
    QatRecipe,
    QuantiseRecipe,
    ReportRecipe,
    TrainRecipe,
)
from finetune.report.choose import STUDENT, choose
from finetune.report.page import write_page
from finetune.settings import DistillSettings, QuantiseSettings
from finetune.training import ranks
from finetune.training.output import locked_by_first, place_of

# Directories of the stages, below `output_dir`.
STAGES = ("train", "plan", "prune", "export", "qat", "int8", "report")
REPORT, PICTURE, PAGE = "report.json", "report.png", "report.html"


def compress(recipe: CompressRecipe) -> dict:
    """Every stage in order; returns the chosen model, why, and where the report is.

    The output directory is locked from the first stage to the choice: another recipe would put its
    products in the place of those that later stages of this one read. So is that of the report.
    """
    check_report_dir(recipe)
    directories = {"output_dir": recipe.output_dir, "report_dir": recipe.report_dir}
    with locked_by_first(ranks.join(), **directories):
        return all_stages(recipe)


def check_report_dir(recipe: CompressRecipe) -> None:
    """UserError when the report cannot be written where the recipe says: the last thing that is
    done would fail."""
    if recipe.report_dir is None:
        return
    place, output = place_of(recipe.report_dir, "report_dir"), place_of(recipe.output_dir)
    stages_of = {output / stage: stage for stage in STAGES}
    for path in (place, *place.parents):
        if path.is_file():
            raise UserError(f"report_dir: {recipe.report_dir}: {path} is a file, not a directory")
        if path in stages_of:
            raise UserError(
                f"report_dir: {recipe.report_dir} belongs to the stage {stages_of[path]!r}; "
                "name another directory"
            )


def all_stages(recipe: CompressRecipe) -> dict:
    """`compress`, once the output directory is locked."""
    classifiers = fine_tune(recipe)
    made = None
    if recipe.budget:
        made = budget.plan(recipe, classifiers[STUDENT])
        recipe = budget.applied(made, recipe)
        if ranks.current().rank == 0:
            _log("plan: " + "\n  ".join(made["why"]))
    if recipe.prune:
        classifiers |= prune(recipe, classifiers[STUDENT])
    models = {name: export(recipe, name, path) for name, path in classifiers.items()}
    refused: dict[str, str] = {}
    if recipe.quantise:
        for name in [name for name in classifiers if name.startswith(STUDENT)]:
            try:
                models[f"{name}-int8"] = quantise(
                    recipe, recipe.quantise, name, classifiers[name], models[name]
                )
            except AccuracyLossError as error:
                refused[f"{name}-int8"] = str(error)
                if ranks.current().rank == 0:
                    _log(f"{name}-int8 is refused: {error}")
    report = stages.report(
        ReportRecipe(
            output_dir=recipe.output_dir / "report",
            task=recipe.task,
            models=models,
            choose_by=choose_by(recipe),
            report=recipe.report,
        )
    )
    return ranks.from_first(ranks.join(), lambda: finish(recipe, report, refused, made))


def finish(
    recipe: CompressRecipe, report: Path, refused: dict[str, str], made: dict | None
) -> dict:
    """Choose from the finished report; write chosen.json, and the report with the choice."""
    target = recipe.report_dir or recipe.output_dir
    measured = json.loads((report / REPORT).read_text(encoding="utf-8"))
    measured |= {"plan": made, "chosen": None}
    write_final(measured, report, target)
    chosen = choose(measured["models"], measured["score"], recipe.choose, recipe.budget)
    chosen |= {"refused": refused}
    write_json(recipe.output_dir / "chosen.json", chosen)
    write_final(measured | {"chosen": chosen}, report, target)
    _log(f"chosen: {chosen['name']} ({chosen['directory']})\n  {chosen['why']}")
    if STUDENT in measured["in_words"]:
        _log(measured["in_words"][STUDENT])
    _log_predictions(list(recipe.examples), Path(chosen["directory"]))
    return {
        "chosen": chosen,
        "gain": measured["in_words"].get(STUDENT),
        "report": str(target / REPORT),
    }


def write_final(measured: dict, report: Path, directory: Path) -> None:
    """Write the three files of a report, with what was planned and chosen, into `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / REPORT, measured)
    shutil.copyfile(report / PICTURE, directory / PICTURE)
    write_page(measured, report / PICTURE, directory / PAGE)


def fine_tune(recipe: CompressRecipe) -> dict[str, Path]:
    """Name to classifier directory, references first; the student may learn from one of them."""
    sources = {**recipe.references, STUDENT: recipe.student}
    if recipe.train is None:
        return sources
    classifiers: dict[str, Path] = {}
    for name, encoder in sources.items():
        distill = None
        if name == STUDENT and recipe.distill:
            distill = DistillSettings(
                teacher=classifiers[recipe.distill.reference],
                temperature=recipe.distill.temperature,
                alpha=recipe.distill.alpha,
            )
        epochs = recipe.reference_epochs.get(name, recipe.train.epochs)
        classifiers[name] = stages.train(
            TrainRecipe(
                output_dir=recipe.output_dir / "train" / name,
                encoder=encoder,
                weights=recipe.weights.get(name, "model.safetensors"),
                task=recipe.task,
                train=recipe.train.model_copy(update={"epochs": epochs}),
                max_length=recipe.max_length,
                distill=distill,
            )
        )
    return classifiers


def prune(recipe: CompressRecipe, student: Path) -> dict[str, Path]:
    """Name to classifier directory of every width."""
    directories = stages.prune(
        PruneRecipe(
            output_dir=recipe.output_dir / "prune",
            classifier=student,
            task=recipe.task,
            prune=recipe.prune,
        )
    )
    return {f"{STUDENT}-{path.name}": path for path in directories}


def export(recipe: CompressRecipe, name: str, classifier: Path) -> Path:
    """The FP32 ONNX directory of a classifier."""
    return stages.export(
        ExportRecipe(
            output_dir=recipe.output_dir / "export" / name,
            classifier=classifier,
            inference=recipe.inference,
        )
    )


def quantise(
    recipe: CompressRecipe, settings: QuantiseSettings, name: str, classifier: Path, fp32: Path
) -> Path:
    """The INT8 directory of a classifier, trained for it first when the recipe says so."""
    if recipe.qat:
        trained = stages.qat(
            QatRecipe(
                output_dir=recipe.output_dir / "qat" / name,
                classifier=classifier,
                task=recipe.task,
                qat=recipe.qat,
            )
        )
        fp32 = export(recipe, f"{name}-qat", trained)
    return stages.quantise(
        QuantiseRecipe(
            output_dir=recipe.output_dir / "int8" / name,
            model=fp32,
            task=recipe.task,
            quantise=settings.model_copy(
                update={"choose_by": settings.choose_by or choose_by(recipe)}
            ),
        )
    )


def choose_by(recipe: CompressRecipe) -> str | None:
    """The dev score that decides: that of `choose`, else of `train`, else the task's first."""
    return recipe.choose.choose_by or (recipe.train.choose_by if recipe.train else None)


def _log_predictions(texts: list[str], directory: Path) -> None:
    from finetune.deploy.predict import Predictor

    if not texts:
        return
    for text, prediction in zip(texts, Predictor(directory).predict(texts), strict=True):
        _log(f"  {prediction}\t{text}")


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
