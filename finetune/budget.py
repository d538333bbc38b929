"""Which widths and precisions of the student can meet a budget, before any of them is trained.

Latency and size depend on the shapes of a network and not on the values of its weights. So every
width is cut out of the fine-tuned student as it is, exported, and quantised; the forms are measured
in turns. Of those that fit, the widest of each precision is worth training: a narrower one is both
less accurate and not needed.
"""

import json
import shutil
import tempfile
from pathlib import Path

from data_pipeline.base.errors import UserError
from data_pipeline.base.files import write_json
from data_pipeline.base.recipes import Recipe
from finetune.recipes import CompressRecipe, ExportRecipe
from finetune.report.measure import latencies, spread_batches, summary
from finetune.report.write import model_bytes
from finetune.settings import (
    BudgetSettings,
    InferenceSettings,
    QuantiseSettings,
    ReportSettings,
    WidthSettings,
)
from finetune.tasks.settings import TaskSettings
from finetune.training.output import Input, make_once

PLAN = "plan.json"
PROBE_BATCHES = 4  # calibration changes no latency


class PlanRecipe(Recipe):
    """What a plan is made from; it is measured again when any of this changes."""

    output_dir: Path
    """Receives plan.json."""
    student: Path
    """The fine-tuned student."""
    task: TaskSettings
    """Its task."""
    budget: BudgetSettings
    """What the product may take."""
    quantise: QuantiseSettings
    """How INT8 is made."""
    inference: InferenceSettings = InferenceSettings()
    """How models are run."""
    report: ReportSettings
    """How latency is measured."""


def plan(recipe: CompressRecipe, student: Path) -> dict:
    """The content of plan.json: the rows measured, the `widths` to train, whether to `quantise`,
    and `why`, a list of sentences. UserError when no form fits the budget."""
    settings = PlanRecipe(
        output_dir=recipe.output_dir / "plan",
        student=student,
        task=recipe.task,
        budget=recipe.budget,
        quantise=int8_settings(recipe),
        inference=recipe.inference,
        report=recipe.report,
    )

    def write(directory: Path) -> None:
        rows = measured(settings)
        write_json(directory / PLAN, decided(rows, settings.budget) | {"rows": rows})

    inputs: list[Input] = [student, recipe.task]
    directory = make_once("plan", settings.output_dir, settings, inputs, write)
    made = json.loads((directory / PLAN).read_text(encoding="utf-8"))
    if not made["fits"]:
        raise UserError(f"budget: {' '.join(made['why'])}")
    return made


def applied(made: dict, recipe: CompressRecipe) -> CompressRecipe:
    """The recipe with the widths and the INT8 of a plan."""
    prune = recipe.prune or WidthSettings()
    widths = tuple(made["widths"])
    return recipe.model_copy(
        update={
            "prune": prune.model_copy(update={"widths": widths}) if widths else None,
            "quantise": int8_settings(recipe) if made["quantise"] else None,
            "qat": recipe.qat if made["quantise"] else None,
        }
    )


def int8_settings(recipe: CompressRecipe) -> QuantiseSettings:
    """Those of the recipe; without any, static ranges and the loss that the choice allows."""
    default = QuantiseSettings(mode="static", allowed_drop=recipe.choose.allowed_loss)
    return recipe.quantise or default


def measured(recipe: PlanRecipe) -> list[dict]:
    """A row for each width (1 first) and precision: latency with quartiles, and size."""
    from finetune.deploy.backends import open_backend
    from finetune.training.task_data import load_with_task

    model, data = load_with_task(recipe.student, recipe.task)
    report = recipe.report
    with tempfile.TemporaryDirectory(dir=recipe.output_dir.parent) as folder:
        forms = {}
        for width in (1.0, *sorted(set(recipe.budget.widths) - {1.0}, reverse=True)):
            for precision, path in probes(model, data, width, recipe, Path(folder)).items():
                forms[width, precision] = path
        backends = {name: open_backend(path, report.threads[-1]) for name, path in forms.items()}
        batches = spread_batches(data.test, min(report.batch_sizes), None)
        times = latencies(backends, dict.fromkeys(forms, batches), report.repeats)
        rows = []
        for (width, precision), path in forms.items():
            spread = summary(times[width, precision], min(report.batch_sizes))
            rows.append(
                {
                    "width": width,
                    "precision": precision,
                    "latency_ms": spread["p50_ms"],
                    "latency_spread_ms": [spread["p25_ms"], spread["p75_ms"]],
                    "size_mb": round(model_bytes(path) / 1e6, 3),
                }
            )
    return rows


def probes(model, data, width: float, recipe: PlanRecipe, folder: Path) -> dict[str, Path]:
    """Deployable directories of a width that is not trained, by precision."""
    from finetune.deploy.export import export_model
    from finetune.prune.width import extract
    from finetune.quantise.quantise import calibration_batches, quantise_file

    root = folder / f"width-{width:g}"
    classifier, fp32, int8 = (root / name for name in ("classifier", "fp32", "int8"))
    data.save(extract(model, width), classifier, {"max_length": data.max_length})
    fp32.mkdir()
    export_model(
        ExportRecipe(output_dir=fp32, classifier=classifier, inference=recipe.inference), fp32
    )
    shutil.rmtree(classifier)
    int8.mkdir()
    mode = "dynamic" if recipe.quantise.mode == "dynamic" else "static"
    settings = recipe.quantise.model_copy(update={"mode": mode, "batches": PROBE_BATCHES})
    calibration = calibration_batches(data.train, settings)
    quantise_file(fp32 / "model.onnx", int8 / "model.onnx", settings, calibration, fp32)
    shutil.copyfile(fp32 / "deploy.json", int8 / "deploy.json")
    return {"fp32": fp32, "int8": int8}


def decided(rows: list[dict], budget: BudgetSettings) -> dict:
    """What to train, from measured rows: `fits`, `widths`, `quantise`, `why`.

    A form fits when its size and the upper quartile of its latency do, so that noise does not make
    it miss the budget later.
    """
    fitting = [row for row in rows if budget.fits(row["latency_spread_ms"][1], row["size_mb"])]
    if not fitting:
        least = min(rows, key=lambda row: (row["latency_ms"], row["size_mb"]))
        nearest = f"the fastest of {len(rows)}, {in_words(least)}"
        why = [f"no form of the student is within {budget.in_words}: {nearest}."]
        return {"fits": False, "widths": [], "quantise": False, "why": why}
    widest = {
        precision: max(
            (row for row in fitting if row["precision"] == precision),
            key=lambda row: row["width"],
            default=None,
        )
        for precision in ("fp32", "int8")
    }
    fp32 = widest["fp32"]
    why = [f"Budget: {budget.in_words}, by what untrained forms of these sizes take."]
    if fp32 is not None and fp32["width"] == 1:
        why.append(f"The student fits as it is ({in_words(fp32)}): nothing is cut.")
        return {"fits": True, "widths": [], "quantise": False, "why": why}
    for precision, row in widest.items():
        if row is None:
            why.append(f"No width fits in {precision.upper()}.")
        else:
            why.append(f"The widest that fits in {precision.upper()}: {in_words(row)}.")
    made = [row for row in widest.values() if row is not None]
    widths = sorted({row["width"] for row in made} - {1.0}, reverse=True)
    return {"fits": True, "widths": widths, "quantise": widest["int8"] is not None, "why": why}


def in_words(row: dict) -> str:
    """A measured row, for sentences."""
    low, high = row["latency_spread_ms"]
    return (
        f"width {row['width']:g} in {row['precision'].upper()} takes {row['latency_ms']:.2f} ms "
        f"(quartiles {low:.2f} to {high:.2f}) and {row['size_mb']:.2f} MB"
    )
