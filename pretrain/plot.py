"""Curves of several runs against each other, from their metrics.jsonl."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_pipeline.base.errors import UserError
from data_pipeline.base.files import whole_file
from pretrain.training.records import read_metrics

# Drawn where a run has them and nothing is asked for; a prefix stands for all that begin with it.
DEFAULT = ("loss/", "holdout/", "optim/lr", "optim/grad_norm", "speed/sequences_per_s")
COLUMNS = 3
LOGARITHMIC = ("loss/", "holdout/")  # relation losses fall by orders of magnitude
EXACT = ("holdout/", "optim/lr")  # measured on all samples, or computed: nothing to smooth
FAINT = 0.25  # opacity of what a smooth curve is the mean of


@dataclass(frozen=True)
class Curves:
    """The records of one run."""

    name: str
    records: list[dict[str, float]]

    def metrics(self) -> list[str]:
        """Names of all numbers in the records, in the order in which they are written."""
        names = {name: None for record in self.records for name in record}
        return [name for name in names if name != "step"]

    def curve(self, metric: str) -> tuple[np.ndarray, np.ndarray]:
        """(steps int64 [n], values float64 [n]) of the records that have this number."""
        points = [(r["step"], r[metric]) for r in self.records if metric in r]
        steps, values = zip(*points, strict=True) if points else ((), ())
        return np.array(steps, np.int64), np.array(values, np.float64)


def plot(runs: list[Path], output: Path, metrics: list[str], smooth: int = 1) -> dict:
    """Write a picture with one panel a metric and one curve a run; returns what it shows.

    metrics: names, or prefixes that end in `/`; empty for DEFAULT. smooth: records whose mean is
    drawn over the faint curve of the records themselves. UserError for a directory without records
    and for a metric that no run has.
    """
    curves = [Curves(name, read(run)) for name, run in zip(names_of(runs), runs, strict=True)]
    chosen = choose(curves, metrics)
    draw(curves, chosen, output, smooth)
    return {
        "output": str(output),
        "metrics": chosen,
        "runs": {
            item.name: {
                "records": len(item.records),
                "step": item.records[-1]["step"],
                "last": {
                    metric: float(item.curve(metric)[1][-1])
                    for metric in chosen
                    if metric in item.metrics()
                },
            }
            for item in curves
        },
    }


def read(run: Path) -> list[dict[str, float]]:
    """The records of a run's directory; UserError when it has none."""
    records = read_metrics(run / "metrics.jsonl")
    if not records:
        raise UserError(f"{run}: no records in metrics.jsonl; give the output_dir of a run")
    return records


def names_of(runs: list[Path]) -> list[str]:
    """The shortest ends of the paths that tell the runs apart: `distill`, or `a/distill`."""
    paths = [run.absolute().parts for run in runs]
    for length in range(1, max(map(len, paths)) + 1):
        names = ["/".join(path[-length:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    raise UserError(f"{runs[0]}: the same run is given twice")


def choose(curves: list[Curves], metrics: list[str]) -> list[str]:
    """The metrics to draw, each once, in the order in which they were asked for."""
    there = list(dict.fromkeys(name for item in curves for name in item.metrics()))
    chosen: dict[str, None] = {}
    for wanted in metrics or DEFAULT:
        matching = [
            n for n in there if n == wanted or (wanted[-1:] == "/" and n.startswith(wanted))
        ]
        if metrics and not matching:
            raise UserError(f"--metrics: no run has {wanted!r}; there are {', '.join(there)}")
        chosen |= dict.fromkeys(matching)
    if not chosen:
        raise UserError(f"none of {', '.join(DEFAULT)} is in the records; name some by --metrics")
    return list(chosen)


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Mean of the last `window` values up to each, of fewer at the beginning; float64 [n]."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def draw(curves: list[Curves], metrics: list[str], output: Path, smooth: int) -> None:
    """The picture, a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    columns = min(COLUMNS, len(metrics))
    rows = -(-len(metrics) // columns)
    figure = Figure(figsize=(5 * columns, 3.4 * rows + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    for number, metric in enumerate(metrics, 1):
        axes = figure.add_subplot(rows, columns, number)
        axes.set_title(metric, fontsize=10)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
        positive = True
        for index, item in enumerate(curves):
            steps, values = item.curve(metric)
            if not len(steps):
                continue
            positive &= bool((values > 0).all())
            color, mark = f"C{index % 10}", "o" if len(steps) == 1 else None
            if smooth > 1 and not metric.startswith(EXACT):
                axes.plot(steps, values, color=color, alpha=FAINT, linewidth=0.8)
                values = running_mean(values, smooth)
            axes.plot(steps, values, color=color, linewidth=1.4, marker=mark, label=item.name)
        if positive and metric.startswith(LOGARITHMIC):
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
    handles = {
        label: handle
        for axes in figure.axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=min(4, len(handles)))
    with whole_file(output) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def table(shown: dict) -> str:
    """The last value of every metric, one row a run."""
    metrics, runs = shown["metrics"], shown["runs"]
    head = ["run", "step", *metrics]
    rows = [
        [name, str(run["step"]), *(f"{run['last'].get(m, float('nan')):.4g}" for m in metrics)]
        for name, run in runs.items()
    ]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [head, *rows]
    )
