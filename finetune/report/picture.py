"""The picture of a report: score against latency; the area of a dot is the size."""

from pathlib import Path

from data_pipeline.base.files import whole_file


def scatter(report: dict, path: Path) -> None:
    """One dot a model of `report` (the content of report.json); up and left is better.

    Bars are 95% intervals over the examples. Where a majority class is known, the axis begins below
    it, so that a difference is seen against what no training at all reaches.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.collections import PathCollection
    from matplotlib.figure import Figure

    rows, score = report["models"], report["score"]
    title = score.replace("_", " ")
    figure = Figure(figsize=(8, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    largest = max(row["size_mb"] for row in rows)
    for index, row in enumerate(rows):
        axes.scatter(
            row["latency_ms"],
            100 * row[score],
            s=60 + 900 * row["size_mb"] / largest,
            alpha=0.65,
            color=f"C{index % 10}",
            edgecolor="black",
            linewidth=0.6,
            label=f"{row['name']}: {100 * row[score]:.1f}%, {row['latency_ms']:.2f} ms, "
            f"{row['size_mb']:.1f} MB",
        )
        axes.annotate(
            str(index + 1),
            (row["latency_ms"], 100 * row[score]),
            ha="center",
            va="center",
            fontsize=9,
            fontweight="bold",
        )
    for row in rows:
        low, high = row["interval"]
        axes.vlines(row["latency_ms"], 100 * low, 100 * high, color="black", linewidth=1, zorder=0)
    if report["majority"]:
        floor = 100 * report["majority"]["scores"][score]
        axes.axhline(floor, color="grey", linestyle="--")
        axes.annotate(
            f"always {report['majority']['label']!r}: {floor:.1f}%",
            (0.99, floor),
            xycoords=axes.get_yaxis_transform(),  # x in shares of the axes, y in data
            ha="right",
            va="bottom",
            fontsize=8,
            color="grey",
        )
    axes.set_xlabel("median latency of one text, ms (batch 1, real lengths)")
    axes.set_ylabel(f"{title} on {report['task']} ({report['split']}), %")
    axes.set_title("Up and left is better; the area of a dot is the model's size")
    axes.grid(alpha=0.3)
    axes.margins(0.12)
    handles, labels = axes.get_legend_handles_labels()
    numbered = [f"{i}  {text}" for i, text in enumerate(labels, 1)]
    legend = figure.legend(handles, numbered, fontsize=8, loc="outside lower center", ncols=2)
    for handle in legend.legend_handles:
        if isinstance(handle, PathCollection):
            handle.set_sizes([60])
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
