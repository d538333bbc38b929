"""Measure every model on the same task, machine and engine; write JSON, a picture and a page."""

from dataclasses import dataclass
from pathlib import Path

from data_pipeline.base.errors import UserError
from data_pipeline.base.files import write_json
from data_pipeline.base.machine import machine
from data_pipeline.base.progress import Progress
from finetune.deploy.backends import read_deploy
from finetune.deploy.predict import Predictor
from finetune.recipes import ReportRecipe
from finetune.report.bootstrap import interval
from finetune.report.compare import gains, in_words, majority
from finetune.report.measure import measure_speed
from finetune.report.page import write_page
from finetune.report.picture import scatter
from finetune.tasks import Task, open_task
from finetune.training.batches import Encoded
from finetune.training.files import check_fits
from finetune.training.scores import SampledScore

MODEL_FILES = ("model.onnx", "model.json", "model.pdiparams")


def write_report(recipe: ReportRecipe, directory: Path) -> None:
    """Write report.json, report.png and report.html into `directory`.

    Every model is scored on dev, by which models are chosen, and on the held-out split, which is
    only shown.
    """
    task = open_task(recipe.task)
    baseline = recipe.report.baseline
    if baseline is not None and baseline not in recipe.models:
        raise UserError(
            f"report.baseline: {baseline!r} is not among the models ({', '.join(recipe.models)})"
        )
    scored = {}
    with Progress("report", len(recipe.models), "model") as progress:
        for name, model in recipe.models.items():
            scored[name] = score_model(Path(model), task, recipe.choose_by)
            progress.add(1, model=name)
    speed = measure_speed(
        {name: (Path(model), scored[name].data) for name, model in recipe.models.items()},
        recipe.report,
    )
    rows = [
        row_of(name, Path(model), scored[name], speed[name])
        for name, model in recipe.models.items()
    ]
    commonest = majority(task)
    report = {
        "task": task.name,
        "split": task.held_out_split,
        "examples": len(task.held_out()),
        "score": next(iter(scored.values())).score,
        "machine": machine("onnxruntime"),
        "latency_ms": "median of one text at its real length, "
        f"{recipe.report.threads[-1]} thread(s)",
        "majority": commonest and vars(commonest),
        **compared(scored, baseline, task),
        "models": rows,
    }
    write_json(directory / "report.json", report)
    scatter(report, directory / "report.png")
    write_page(report, directory / "report.png", directory / "report.html")


@dataclass(frozen=True)
class ScoredModel:
    """Scores of a model on both splits, and the held-out examples in its vocabulary."""

    held_out: dict[str, float]
    dev: dict[str, float]
    data: Encoded
    score: str
    """The one that is compared."""
    sampled: SampledScore
    """It on samples of the held-out examples."""


def score_model(directory: Path, task: Task, choose_by: str | None = None) -> ScoredModel:
    """Score a deployable directory; UserError when its labels are not the task's, the task has no
    dev split, or `choose_by` is none of its scores."""
    predictor = Predictor(directory)
    check_fits(predictor.kind, predictor.labels, task, directory)
    data = {
        split: predictor.encode_examples(task.split(split))
        for split in {"dev", task.held_out_split}
    }
    logits = {split: predictor.encoded_logits(part) for split, part in data.items()}
    scores = {split: part.scores(logits[split]) for split, part in data.items()}
    split = task.held_out_split
    held_out, name = data[split], data[split].score_name(choose_by)
    return ScoredModel(
        held_out=scores[split],
        dev=scores["dev"],
        data=held_out,
        score=name,
        sampled=held_out.sampled(logits[split], name),
    )


def compared(scored: dict[str, ScoredModel], baseline: str | None, task: Task) -> dict:
    """What report.json says of gains over the baseline; empty without one."""
    if baseline is None:
        return {"baseline": None, "gains": {}, "in_words": {}}
    gain_of = gains({name: model.sampled for name, model in scored.items()}, baseline)
    score = scored[baseline].score
    where = f"{len(task.held_out()):,} {task.held_out_split} examples"
    return {
        "baseline": baseline,
        "gains": {name: vars(gain) for name, gain in gain_of.items()},
        "in_words": {
            name: in_words(name, baseline, score, gain, where) for name, gain in gain_of.items()
        },
    }


def row_of(name: str, directory: Path, scored: ScoredModel, speed: list[dict]) -> dict:
    """One row of the report; the scores at its top are those on the held-out split."""
    deploy = read_deploy(directory)
    if missing := [name for name in ("parameters", "precision") if name not in deploy]:
        raise UserError(f"{directory}/deploy.json: no field {missing[0]!r}; export the model again")
    latency = headline_latency(speed)
    return {
        "name": name,
        **scored.held_out,
        "dev": scored.dev,
        "interval": interval(scored.sampled),
        "latency_ms": latency["p50_ms"],
        "latency_spread_ms": [latency["p25_ms"], latency["p75_ms"]],
        "size_mb": round(model_bytes(directory) / 1e6, 3),
        "parameters": deploy["parameters"],
        "precision": deploy["precision"],
        "directory": str(directory),
        "speed": speed,
    }


def headline_latency(speed: list[dict]) -> dict:
    """The row that is compared: the smallest batch at real lengths with the most threads."""
    real = [row for row in speed if row["length"] == "real"]
    return min(real, key=lambda row: (row["batch"], -row["threads"]))


def model_bytes(directory: Path) -> int:
    """Bytes of graph and weights."""
    return sum((directory / n).stat().st_size for n in MODEL_FILES if (directory / n).exists())
