"""Measure every model on the same task, machine and engine; write JSON and a picture."""

from pathlib import Path

from data_pipeline.base.files import write_json
from data_pipeline.base.progress import Progress
from finetune.report.measure import batches_of, latencies, summary
from finetune.settings import ReportRecipe, ReportSettings
from finetune.tasks import open_task


def make(recipe: ReportRecipe, directory: Path) -> None:
    """Fill `directory` with report.json and report.png."""
    from finetune.report.picture import scatter

    examples = open_task(recipe.task).held_out()
    rows = []
    with Progress("report", len(recipe.models), "model") as progress:
        for name, model in recipe.models.items():
            rows.append(measure_model(name, Path(model), examples, recipe.report))
            progress.add(1, model=name)
    path = directory / "report.json"
    write_json(path, {"task": recipe.task.name, "machine": machine(), "models": rows})
    scatter(rows, path.with_suffix(".png"), recipe.task.name)


def measure_model(name: str, directory: Path, examples: list, settings: ReportSettings) -> dict:
    """One row of the report."""
    from finetune.backends import read_deploy
    from finetune.batches import encode
    from finetune.predict import Predictor
    from finetune.scores import scores

    predictor = Predictor(directory, threads=settings.threads)
    data = encode(predictor.encoder, examples, predictor.max_length)
    single = latencies(predictor.backend, batches_of(data, 1, None), settings.repeats)
    deploy = read_deploy(directory)
    return {
        "name": name,
        **scores(predictor.encoded_logits(data), data.labels),
        "latency_ms": summary(single, 1)["p50_ms"],
        "size_mb": round(model_bytes(directory) / 1e6, 3),
        "parameters": deploy["parameters"],
        "precision": deploy["precision"],
        "directory": str(directory),
    }


def model_bytes(directory: Path) -> int:
    """Bytes of graph and weights."""
    names = ("model.onnx", "model.json", "model.pdiparams")
    return sum((directory / n).stat().st_size for n in names if (directory / n).exists())


def machine() -> dict[str, str | int]:
    """Where the figures come from."""
    import os
    import platform

    import onnxruntime

    cpu = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    return {"cpu": cpu, "cores": os.cpu_count() or 1, "onnxruntime": onnxruntime.__version__}
