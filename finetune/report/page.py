"""The report as one HTML file that needs nothing else."""

import base64
from html import escape
from pathlib import Path

from data_pipeline.base.files import write_atomically

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222 }
body { margin: 2rem auto; max-width: 70rem; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0; width: 100% }
th, td { border-bottom: 1px solid #ddd; padding: .3rem .6rem; text-align: right }
th:first-child, td:first-child { text-align: left }
th { background: #f4f4f4 } img { max-width: 100% } footer { color: #777 }
"""


def write_page(report: dict, picture: Path, output: Path) -> None:
    """`report` is what report.json holds; the picture is embedded."""
    image = base64.b64encode(Path(picture).read_bytes()).decode()
    machine = ", ".join(f"{key} {value}" for key, value in report["machine"].items())
    write_atomically(
        output,
        "<!doctype html><html lang='en'><meta charset='utf-8'>"
        f"<title>{escape(report['task'])}: models compared</title><style>{STYLE}</style>"
        f"<h1>{escape(report['task'])}: quality, latency, size</h1>"
        f"<p>{report['examples']} examples of the {report['split']} split; models are chosen on "
        f"dev. Latency: {escape(report['latency_ms'])}, models called in turn.</p>"
        f"{_decisions(report)}{_gains(report)}{_summary(report)}"
        f"<img alt='quality against latency' src='data:image/png;base64,{image}'>"
        f"<h2>Speed in full</h2>{_speed(report['models'])}"
        f"<footer>{escape(machine)}</footer></html>\n",
    )


def _decisions(report: dict) -> str:
    """What `compress` planned and chose, where it did."""
    plan, chosen = report.get("plan"), report.get("chosen")
    texts = list(plan["why"]) if plan else []
    if chosen:
        texts.append(f"Chosen: {chosen['name']}, {chosen['why']}.")
        texts += [f"Refused: {name}. {why}" for name, why in chosen["refused"].items()]
    return "".join(f"<p>{escape(text)}</p>" for text in texts)


def _gains(report: dict) -> str:
    """One sentence a model: what it gains over the baseline, and whether that can be chance."""
    items = "".join(f"<li>{escape(text)}</li>" for text in report["in_words"].values())
    return f"<ul>{items}</ul>" if items else ""


def _summary(report: dict) -> str:
    models, score = report["models"], report["score"]
    first = models[0]
    names = list(first["dev"])
    rows = [
        [
            row["name"],
            *(f"{100 * row['dev'][name]:.2f}%" for name in names),
            *(f"{100 * row[name]:.2f}%" for name in names),
            f"{100 * row['interval'][0]:.1f} to {100 * row['interval'][1]:.1f}",
            f"{row['latency_ms']:.2f} ms ({row['latency_spread_ms'][0]:.2f} to "
            f"{row['latency_spread_ms'][1]:.2f})",
            f"{first['latency_ms'] / row['latency_ms']:.2f}x",
            f"{row['size_mb']:.2f} MB",
            f"{row['parameters']:,}",
            row["precision"],
        ]
        for row in models
    ]
    if report["majority"]:
        shares = [f"{100 * report['majority']['scores'][name]:.2f}%" for name in names]
        label = f"always {report['majority']['label']!r} (commonest in training)"
        rows.append([label, *[""] * len(names), *shares, *[""] * 6])
    titles = [name.replace("_", " ") for name in names]
    heads = ["model", *(f"{title}, dev" for title in titles)]
    heads += [f"{title}, {report['split']}" for title in titles]
    heads += [
        f"95% interval of {score.replace('_', ' ')}",
        "latency (quartiles)",
        f"against {first['name']}",
        "size",
    ]
    return _table([*heads, "parameters", "precision"], rows)


def _speed(models: list[dict]) -> str:
    heads = ["model", "threads", "batch", "length", "min ms", "p50 ms", "p95 ms", "max ms"]
    rows = [
        [
            model["name"],
            str(row["threads"]),
            str(row["batch"]),
            str(row["length"]),
            *(f"{row[f'{name}_ms']:.2f}" for name in ("min", "p50", "p95", "max")),
            f"{row['texts_per_s']:,.0f}",
        ]
        for model in models
        for row in model["speed"]
    ]
    return _table([*heads, "texts/s"], rows)


def _table(heads: list[str], rows: list[list[str]]) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
