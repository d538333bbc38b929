"""Measure every model on the same task, machine and engine; write JSON, a picture and a page."""

from pathlib import Path

from data_pipeline.base.files import write_json
from data_pipeline.base.machine import machine
from data_pipeline.base.progress import Progress
from finetune.deploy.backends import read_deploy
from finetune.deploy.predict import Predictor
from finetune.recipes import ReportRecipe
from finetune.report.measure import measure_speed
from finetune.report.page import write_page
from finetune.report.picture import scatter
from finetune.settings import ReportSettings
from finetune.tasks import open_task
from finetune.training.batches import encode
from finetune.training.scores import scores

MODEL_FILES = ("model.onnx", "model.json", "model.pdiparams")


def write_report(recipe: ReportRecipe, directory: Path) -> None:
    """Write report.json, report.png and report.html into `directory`."""
    examples = open_task(recipe.task).held_out()
    rows = []
    with Progress("report", len(recipe.models), "model") as progress:
        for name, model in recipe.models.items():
            rows.append(measure_model(name, Path(model), examples, recipe.report))
            progress.add(1, model=name)
    report = {
        "task": recipe.task.name,
        "examples": len(examples),
        "machine": machine("onnxruntime"),
        "latency_ms": "median of one text at its real length, "
        f"{recipe.report.threads[-1]} thread(s)",
        "models": rows,
    }
    write_json(directory / "report.json", report)
    scatter(rows, directory / "report.png", recipe.task.name)
    write_page(report, directory / "report.png", directory / "report.html")


def measure_model(name: str, directory: Path, examples: list, settings: ReportSettings) -> dict:
    """One row of the report."""
    predictor = Predictor(directory, threads=settings.threads[-1])
    data = encode(predictor.encoder, examples, predictor.max_length)
    deploy = read_deploy(directory)
    speed = measure_speed(directory, data, settings)
    return {
        "name": name,
        **scores(predictor.encoded_logits(data), data.labels),
        "latency_ms": headline_latency(speed)["p50_ms"],
        "size_mb": round(model_bytes(directory) / 1e6, 3),
        "parameters": deploy["parameters"],
        "precision": deploy["precision"],
        "directory": str(directory),
        "speed": speed,
    }


def headline_latency(speed: list[dict]) -> dict:
    """The figure that is compared: the smallest batch at real lengths with the most threads."""
    real = [row for row in speed if row["length"] == "real"]
    return min(real, key=lambda row: (row["batch"], -row["threads"]))


def model_bytes(directory: Path) -> int:
    """Bytes of graph and weights."""
    return sum((directory / n).stat().st_size for n in MODEL_FILES if (directory / n).exists())
