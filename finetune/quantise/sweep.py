"""Every calibration method with several numbers of batches: what INT8 loses on dev with each."""

import sys
import tempfile
from pathlib import Path

import numpy as np

from data_pipeline.base.files import write_atomically, write_json
from data_pipeline.base.progress import Progress
from finetune.deploy.backends import OnnxBackend, outputs_of
from finetune.deploy.onnx_graph import Graph
from finetune.quantise import checks, onnx_int8
from finetune.quantise.calibration import range_of
from finetune.quantise.observe import observe
from finetune.quantise.quantise import calibration_batches, open_source, weight_peak
from finetune.recipes import SweepRecipe
from finetune.tasks import open_task
from finetune.training.batches import Encoded

ROWS, PAGE = "sweep.json", "sweep.md"


def sweep_calibration(recipe: SweepRecipe, directory: Path) -> None:
    """Write sweep.json and sweep.md into `directory`.

    The model is calibrated once for each number of batches and quantised for each method; it is not
    written. UserError as from `quantise`.
    """
    task = open_task(recipe.task)
    fp32 = open_source(recipe.model, task)
    dev, train = (fp32.encode_examples(task.split(split)) for split in ("dev", "train"))
    score = dev.score_name(recipe.quantise.choose_by)
    before = dev.scores(fp32.encoded_logits(dev))[score]
    source = Path(recipe.model) / "model.onnx"
    inputs = sorted({node.input[0] for node in onnx_int8.products(Graph(source))})
    rows = []
    with Progress("sweep", len(recipe.methods) * len(recipe.batches), "model") as progress:
        for count in recipe.batches:
            settings = recipe.quantise.model_copy(update={"batches": count})
            batches = calibration_batches(train, settings)
            observed = observe(source, inputs, batches)
            for method in recipe.methods:
                ranges = {n: range_of(o, method, settings.percentile) for n, o in observed.items()}
                after, error = measured(source, ranges, settings, dev, batches[0])
                drop = round(100 * (before - after[score]), 3)
                row = {"method": method, "batches": len(batches), "drop_points": drop}
                rows.append({**row, "dev": after, "last_layer_error": error})
                progress.add(1, drop=drop)
    best = min(rows, key=lambda row: (row["drop_points"], row["last_layer_error"]))
    content = {"task": task.name, "score": score, "fp32": before, "best": best, "rows": rows}
    write_json(directory / ROWS, content)
    write_atomically(directory / PAGE, page(content))
    print(
        f"sweep: least is lost by {best['method']} with {best['batches']} batches: "
        f"{best['drop_points']:+.2f} points of {score} on dev",
        file=sys.stderr,
    )


def measured(
    source: Path,
    ranges: dict[str, tuple[float, float]],
    settings,
    dev: Encoded,
    batch: dict[str, np.ndarray],
) -> tuple[dict[str, float], float]:
    """(scores on dev, relative error after the last layer) of a static INT8 model."""
    with tempfile.TemporaryDirectory() as folder:
        int8 = Path(folder) / "model.onnx"
        options = {"per_channel": settings.per_channel, "peak": weight_peak(settings)}
        onnx_int8.quantise_static(source, int8, ranges, **options)
        logits = dev.collect(outputs_of(OnnxBackend(int8), dev, 32))
        errors = checks.layer_errors(source, int8, batch)
    return dev.scores(logits), errors[-1]["relative_error"]


def page(content: dict) -> str:
    """sweep.md: a row a method, a column a number of batches."""
    methods = list(dict.fromkeys(row["method"] for row in content["rows"]))
    counts = list(dict.fromkeys(row["batches"] for row in content["rows"]))
    by_place = {(row["method"], row["batches"]): row for row in content["rows"]}
    lines = [
        f"Points of {content['score']} that static INT8 loses on dev of {content['task']} (FP32: "
        f"{100 * content['fp32']:.2f}%), and in brackets the relative error after the last layer.",
        "",
        "| method | " + " | ".join(f"{count} batches" for count in counts) + " |",
        "|---|" + "---|" * len(counts),
    ]
    for method in methods:
        cells = (by_place[method, count] for count in counts)
        shown = (f"{cell['drop_points']:.2f} ({cell['last_layer_error']:.4f})" for cell in cells)
        lines.append(f"| {method} | " + " | ".join(shown) + " |")
    return "\n".join(lines) + "\n"
