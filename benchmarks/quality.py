"""Does distillation teach? Students of one shape, trained in different ways, on real tasks.

    python benchmarks/quality.py --work runs/quality [--teacher assets/teacher] [--json FILE]

Contenders (quality_contenders.py) take the same samples and the same number of steps; tasks and
fine-tuning (quality_scores.py) are the same for all. Learning rates of fine-tuning, relations and
the best contender are chosen on dev; test is shown. The hours it will take are measured and printed
first; `--hours_only` ends there. Every training and every fine-tuning leaves a result on disk: the
same command continues after an interruption. `--size smoke` runs all of it in a minute or two, with
a random teacher, to see that it works; its figures mean nothing.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from statistics import harmonic_mean

if not __package__:  # not this folder, where data_pipeline.py is a benchmark and hides the package
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
from launch.environment import best_for_cpu

os.environ |= best_for_cpu(1)  # before Paddle is imported

from benchmarks import quality_report, quality_smoke
from benchmarks.quality_contenders import (
    CONTENDERS,
    DISTILLED,
    RELATIONS,
    Plan,
    distill_values,
    encoder_of,
    relation_heads,
)
from benchmarks.quality_scores import SMOKE_TASKS, TASKS, FineTuning, fine_tune, predicted_seconds
from data_pipeline.base.errors import UserError, command
from data_pipeline.base.files import write_json

LIBRARIES = ("paddlepaddle", "paddlenlp", "onnxruntime", "numpy")


@command
def main(argv: list[str] | None = None) -> int:
    """State the hours, run what is missing, write table, picture and JSON."""
    options = parser().parse_args(argv)
    plan, tasks = prepare(options)
    bench = Benchmark(plan, tasks, options.seeds, options.fine_tunings, tuple(options.rates))
    hours = bench.hours()
    print(f"predicted: {hours['total']:.2f} hours: " + quality_report.hours_line(hours), flush=True)
    if options.hours_only:
        return 0
    results = bench.score_all()
    summary = quality_report.summarise(results, bench.best, bench.winner)
    summary["hours"] = hours | {"taken": bench.hours_taken(results)}
    quality_report.write(summary, options, LIBRARIES)
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line; defaults are for two cores and a teacher of some 6 layers of 384."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--work", type=Path, required=True, help="directory of all runs and results"
    )
    parser.add_argument("--size", choices=("full", "smoke"), default="full")
    parser.add_argument("--teacher", type=Path, default=Path("assets/teacher"))
    parser.add_argument("--shards", type=Path, help="default: the packaged text, in WORK/shards")
    parser.add_argument("--steps", type=int, default=2000, help="of each pre-training")
    parser.add_argument("--batch", type=int, default=16, help="samples a step")
    parser.add_argument("--group", type=int, default=16, help="samples related to each other")
    parser.add_argument("--learning_rate", type=float, default=1e-3, help="of pre-training")
    parser.add_argument("--teacher_layer", type=int, help="default: the last but one")
    parser.add_argument("--heads", type=int, help="R; default: that many of 16 numbers each")
    parser.add_argument("--seeds", type=int, default=3, help="pre-training seeds of the main ones")
    parser.add_argument("--fine_tunings", type=int, default=3, help="seeds of each task")
    parser.add_argument(
        "--rates", type=float, nargs="+", default=[2e-4, 5e-4], help="of fine-tuning, best on dev"
    )
    parser.add_argument("--tasks", nargs="+", choices=TASKS, help="default: all")
    parser.add_argument("--hours_only", action="store_true", help="predict the hours and end")
    parser.add_argument("--json", type=Path, help="figures, settings and every score")
    parser.add_argument("--picture", type=Path, help="default: WORK/quality.png")
    parser.add_argument(
        "--results", type=Path, help="Markdown file whose section on quality is replaced"
    )
    return parser


def prepare(options: argparse.Namespace) -> tuple[Plan, dict[str, FineTuning]]:
    """The plan, with teacher and shards there; and the tasks."""
    tasks, teacher, shards = TASKS, options.teacher, options.shards
    if options.size == "smoke":
        tasks = SMOKE_TASKS
        shards, teacher = quality_smoke.make(options.work)
        options.steps, options.batch, options.group = 4, 8, 4
        options.seeds, options.fine_tunings, options.rates = 2, 1, options.rates[:1]
    if options.tasks:
        tasks = {name: tasks[name] for name in options.tasks}
    shards = shards or quality_smoke.packaged_shards(options.work / "shards", teacher)
    from pretrain.encoders.config import read_config

    layers = read_config(teacher)["num_hidden_layers"]
    plan = Plan(
        options.work,
        teacher,
        shards,
        options.steps,
        options.batch,
        options.group,
        options.learning_rate,
        0.05,
        options.teacher_layer or max(1, layers - 1),
        options.heads or relation_heads(teacher),
    )
    if (shards / "vocab.txt").read_bytes() != (teacher / "vocab.txt").read_bytes():
        raise UserError(f"{shards}: its vocab.txt is not that of {teacher}")
    return plan, tasks


class Benchmark:
    """All results of a plan: those on disk, and those still to be made."""

    def __init__(
        self,
        plan: Plan,
        tasks: dict[str, FineTuning],
        seeds: int,
        fine_tunings: int,
        rates: tuple[float, ...],
    ):
        self.plan, self.tasks, self.rates = plan, tasks, rates
        self.seeds, self.fine_tunings = seeds, fine_tunings
        self.results: dict[str, dict[int, dict[str, list[dict]]]] = {}
        self.best = self.winner = RELATIONS[0]

    def score_all(self) -> dict:
        """Contender to pre-training seed to task to results, in the order of work."""
        for name in (*(name for name in CONTENDERS if name not in DISTILLED), *RELATIONS):
            self.score(name, 1)
        self.best = max(RELATIONS, key=self.on_dev)
        print(f"best relations on dev: {self.best}", flush=True)
        for name in (name for name in DISTILLED if CONTENDERS[name].on_best):
            self.score(name, 1)
        self.winner = max(DISTILLED, key=self.on_dev)
        print(f"best student on dev: {self.winner}", flush=True)
        for seed in range(2, self.seeds + 1):
            for name in ("untrained", "masked_lm", self.winner):
                self.score(name, seed)
        return self.results

    def score(self, name: str, seed: int) -> None:
        """Train a contender's encoder and fine-tune it on every task."""
        encoder = encoder_of(name, seed, self.plan, self.best)
        by_task = self.results.setdefault(name, {}).setdefault(seed, {})
        for task, how in self.tasks.items():
            rate = self.rate_of(name, encoder, task)
            by_task[task] = [
                self.result(name, seed, encoder, task, how, rate, number)
                for number in range(1, self.fine_tunings + 1)
            ]

    def rate_of(self, name: str, encoder: Path, task: str) -> float:
        """The rate whose first fine-tuning of the first pre-training seed is best on dev."""
        if len(self.rates) == 1:
            return self.rates[0]
        encoder = encoder_of(name, 1, self.plan, self.best)

        def on_dev(rate: float) -> float:
            result = self.result(name, 1, encoder, task, self.tasks[task], rate, 1)
            return result["dev"][result["score"]]

        return max(self.rates, key=on_dev)

    def result(self, name, seed, encoder, task, how, rate, number) -> dict:
        """One fine-tuning."""
        file = self.plan.work / "results" / f"{name}-{seed}" / f"{task}-{rate:g}-{number}.json"
        return fine_tune(encoder, task, how, rate, number, file)

    def on_dev(self, name: str) -> float:
        """Mean dev score of a contender over tasks and fine-tunings, first pre-training seed."""
        tasks = self.results[name][1].values()
        each = [[result["dev"][result["score"]] for result in results] for results in tasks]
        return sum(sum(values) / len(values) for values in each) / len(each)

    def hours(self) -> dict[str, float]:
        """Predicted hours of all that a whole run takes, from measured speeds; stored once."""
        file = self.plan.work / "hours.json"
        asked = [self.plan.steps, self.seeds, self.fine_tunings, list(self.rates), [*self.tasks]]
        if file.exists():
            stored = json.loads(file.read_text(encoding="utf-8"))
            if stored["asked"] == asked:
                return stored["hours"]
        pre = {kind: self.pretraining_hours(kind) for kind in ("masked_lm", "token")}
        student = encoder_of("untrained", 1, self.plan)
        hours_of = {
            who: sum(predicted_seconds(path, task, how) for task, how in self.tasks.items()) / 3600
            for who, path in (("teacher", self.plan.teacher), ("student", student))
        }
        more, first = len(self.rates) - 1, self.fine_tunings
        students = (first + more) * (len(CONTENDERS) - 1) + 3 * (self.seeds - 1) * first
        hours = {
            "masked_lm": pre["masked_lm"] * self.seeds,
            "distillation": pre["token"] * (len(DISTILLED) + self.seeds - 1),
            "fine_tuning_students": hours_of["student"] * students,
            "fine_tuning_teacher": hours_of["teacher"] * (first + more),
        }
        hours["total"] = sum(hours.values())
        write_json(file, {"asked": asked, "hours": hours})
        return hours

    def pretraining_hours(self, name: str) -> float:
        """Of one run, from a short run of the same recipe."""
        from dataclasses import replace

        from pretrain.training.metrics import read_metrics

        steps = min(self.plan.steps, 8)
        short = replace(self.plan, work=self.plan.work / "speed", steps=steps)
        encoder_of(name, 1, short)
        output = Path(distill_values(name, 1, short, None)["output_dir"])
        # Each record is of equally many steps, of short samples or of long ones.
        records = read_metrics(output / "metrics.jsonl")
        speed = harmonic_mean(record["speed/sequences_per_s"] for record in records)
        return self.plan.steps * self.plan.batch / speed / 3600

    def hours_taken(self, results: dict) -> float:
        """Hours of what is in the results: trainings and fine-tunings."""
        seconds = sum(
            result["seconds"]
            for seeds in results.values()
            for tasks in seeds.values()
            for each in tasks.values()
            for result in each
        )
        for name, seeds in results.items():
            for seed in seeds:
                file = self.plan.work / "runs" / f"{name}-{seed}" / "seconds.json"
                if file.exists():
                    seconds += json.loads(file.read_text(encoding="utf-8"))["seconds"]
        return seconds / 3600


if __name__ == "__main__":
    sys.exit(main())
