"""One recipe through every stage: fine-tune, prune, quantise, export, report, choose.

Each stage has its own directory under `output_dir` and is done once, so an interrupted command
continues where it stopped, and a changed setting repeats only what depends on it.
"""

import json
import shutil
import sys
from pathlib import Path

from data_pipeline.base.errors import UserError
from data_pipeline.base.files import write_json
from finetune import stages
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
from finetune.settings import ChooseSettings, DistillSettings
from finetune.training import ranks

STUDENT = "student"
REPORT_FILES = ("report.json", "report.png", "report.html")


def compress(recipe: CompressRecipe) -> dict:
    """Every stage in order; returns the chosen model, why, and where the report is."""
    classifiers = fine_tune(recipe)
    if recipe.prune:
        classifiers |= prune(recipe, classifiers[STUDENT])
    models = {name: export(recipe, name, path) for name, path in classifiers.items()}
    refused: dict[str, str] = {}
    if recipe.quantise:
        for name in [name for name in classifiers if name.startswith(STUDENT)]:
            try:
                models[f"{name}-int8"] = quantise(recipe, name, classifiers[name], models[name])
            except AccuracyLossError as error:
                refused[f"{name}-int8"] = str(error)
                if ranks.current().rank == 0:
                    _log(f"{name}-int8 is refused: {error}")
    report = stages.report(
        ReportRecipe(
            output_dir=recipe.output_dir / "report",
            task=recipe.task,
            models=models,
            report=recipe.report,
        )
    )
    return ranks.from_first(ranks.join(), lambda: finish(recipe, report, refused))


def finish(recipe: CompressRecipe, report: Path, refused: dict[str, str]) -> dict:
    """Choose from the finished report; write chosen.json and the copy of the report."""
    if recipe.report_dir:
        recipe.report_dir.mkdir(parents=True, exist_ok=True)
        for name in REPORT_FILES:
            shutil.copyfile(report / name, recipe.report_dir / name)
    measured = json.loads((report / "report.json").read_text(encoding="utf-8"))
    score = choose_by(recipe) or measured["score"]
    chosen = choose(measured["models"], score, recipe.choose) | {"refused": refused}
    write_json(recipe.output_dir / "chosen.json", chosen)
    _log(f"chosen: {chosen['name']} ({chosen['directory']})\n  {chosen['why']}")
    if STUDENT in measured["in_words"]:
        _log(measured["in_words"][STUDENT])
    _log_predictions(list(recipe.examples), Path(chosen["directory"]))
    return {
        "chosen": chosen,
        "gain": measured["in_words"].get(STUDENT),
        "report": str((recipe.report_dir or report) / "report.json"),
    }


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
        ExportRecipe(output_dir=recipe.output_dir / "export" / name, classifier=classifier)
    )


def quantise(recipe: CompressRecipe, name: str, classifier: Path, fp32: Path) -> Path:
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
            quantise=recipe.quantise.model_copy(
                update={"choose_by": recipe.quantise.choose_by or choose_by(recipe)}
            ),
        )
    )


def choose_by(recipe: CompressRecipe) -> str | None:
    """The dev score that decides: that of `choose`, else of `train`, else the task's first."""
    return recipe.choose.choose_by or (recipe.train.choose_by if recipe.train else None)


def choose(rows: list[dict], score: str, settings: ChooseSettings) -> dict:
    """The fastest form of the student that loses no more of a dev score than is allowed.

    rows: those of report.json. Scores on the test split are shown there and decide nothing.
    """
    base = next(row for row in rows if row["name"] == STUDENT)
    forms = [row for row in rows if row["name"].startswith(STUDENT)]
    if score not in base["dev"]:
        raise UserError(
            f"choose.choose_by: {score!r} is not a score of this task; "
            f"one of {', '.join(base['dev'])}"
        )
    allowed = [
        row
        for row in forms
        if 100 * (base["dev"][score] - row["dev"][score]) <= settings.allowed_loss + 1e-9
    ]
    best = min(allowed, key=lambda row: row["latency_ms"])
    points = 100 * (best["dev"][score] - base["dev"][score])
    why = (
        f"fastest of {len(allowed)} (of {len(forms)}) forms within {settings.allowed_loss:g} "
        f"points of the FP32 student on dev: {best['latency_ms']:.2f} ms against "
        f"{base['latency_ms']:.2f} ms, {score} {100 * best['dev'][score]:.2f}% "
        f"({points:+.2f} points), {best['size_mb']:.1f} MB against {base['size_mb']:.1f} MB"
    )
    similar = [
        row["name"]
        for row in allowed
        if row is not best and row["latency_spread_ms"][0] <= best["latency_spread_ms"][1]
    ]
    if similar:
        why += f"; not clearly faster than {', '.join(similar)} (quartiles of latency overlap)"
    return {
        "name": best["name"],
        "directory": best["directory"],
        "split": "dev",
        "score": score,
        "why": why,
    }


def _log_predictions(texts: list[str], directory: Path) -> None:
    from finetune.deploy.predict import Predictor

    if not texts:
        return
    for text, prediction in zip(texts, Predictor(directory).predict(texts), strict=True):
        _log(f"  {prediction}\t{text}")


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
