"""`python -m pretrain probe`: choose the teacher layer and R by evidence.

For each layer of the recipe's teacher: entropy of its token-token relations for each R, accuracy
of a linear probe on its output, and the loss left after a short distillation by the recipe with
this layer and R. Every short distillation is a run under `output`/runs, so an interrupted probe
continues.
"""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import paddle

from data_pipeline.base.errors import UserError
from data_pipeline.base.files import whole_file, write_json
from data_pipeline.base.progress import Progress
from data_pipeline.loading.loader import Loader
from data_pipeline.loading.order import OrderSettings
from data_pipeline.shards.format import Manifest
from pretrain import entry, run
from pretrain.encoders.load import load_encoder
from pretrain.probe import linear_probe
from pretrain.probe.layers import relation_entropies, states_of_layers
from pretrain.probe.linear_probe import Labelled
from pretrain.recipe import DistillRecipe
from pretrain.training.finished import is_finished
from pretrain.training.records import read_metrics

BATCH = 16
PROBE_LENGTH = 64  # tokens of a labelled text


@dataclass(frozen=True)
class Settings:
    """What is measured."""

    output: Path
    layers: tuple[int, ...]
    """From 1; empty: all."""
    heads: tuple[int, ...]
    """R; empty: the recipe's."""
    steps: int
    """Of each short distillation; 0: none."""
    samples: int
    """Of the shards, for the entropies."""
    labelled: Path | None
    """For the linear probe; None: iNEWS titles."""


def probe(recipe: DistillRecipe, settings: Settings) -> dict:
    """Measure, write probe.json and probe.png into `settings.output`; the content of the former."""
    teacher = load_encoder(recipe.teacher.path, recipe.teacher.weights)
    count = teacher.config.num_hidden_layers
    layers = settings.layers or tuple(range(1, count + 1))
    heads = settings.heads or (recipe.relations.heads,)
    _check(layers, heads, count, (teacher.config.hidden_size, recipe.student.hidden_size))
    texts = (
        linear_probe.read_labelled(settings.labelled)
        if settings.labelled
        else linear_probe.packaged()
    )
    entropies = entropies_of(teacher, recipe, heads, settings.samples)
    accuracies = probe_accuracies(teacher, Path(recipe.teacher.path), texts)
    rows = []
    for layer in layers:
        for number in heads:
            row = {
                "layer": layer,
                "heads": number,
                **{f"entropy_{x}": entropies[layer, number, x] for x in "qkv"},
                "linear_probe_accuracy": accuracies[layer],
            }
            if settings.steps:
                row |= short_distillation(recipe, settings, layer, number)
            rows.append(row)
    result = {
        "teacher": str(recipe.teacher.path),
        "student_layers": recipe.student.num_hidden_layers,
        "relations": recipe.relations.model_dump(mode="json"),
        "steps": settings.steps,
        "samples": settings.samples,
        "majority_share": linear_probe.majority_share(
            [label for _, label in texts.train], [label for _, label in texts.held_out]
        ),
        "rows": rows,
    }
    settings.output.mkdir(parents=True, exist_ok=True)
    write_json(settings.output / "probe.json", result)
    draw(result, settings.output / "probe.png")
    return result


def _check(layers, heads, count: int, widths: tuple[int, int]) -> None:
    for layer in layers:
        if not 1 <= layer <= count:
            raise UserError(f"--layers: {layer}; the teacher has layers 1 to {count}")
    for number in heads:
        for who, width in zip(("teacher", "student"), widths, strict=True):
            if number < 1 or width % number:
                raise UserError(f"--heads: {number} does not divide the {who}'s width {width}")


def entropies_of(
    teacher, recipe: DistillRecipe, heads: tuple[int, ...], samples: int
) -> dict[tuple[int, int, str], float]:
    """(layer, R, "q", "k" or "v") to the mean share of a uniform row's entropy."""
    entropies = defaultdict(list)
    size = min(BATCH, Manifest.read(recipe.data.shards).samples)
    order = OrderSettings(seed=recipe.seed, relation_group_size=size, global_batch_size=size)
    loader = Loader(recipe.data.shards, order, workers=0)
    batches = max(1, samples // size)
    with Progress("entropy", batches, "batch") as progress, paddle.no_grad():
        for (batch,), _ in zip(loader, range(batches), strict=False):
            inputs = paddle.to_tensor(batch.input_ids), paddle.to_tensor(batch.attention_mask)
            for layer, states in enumerate(states_of_layers(teacher, *inputs), 1):
                for name, x in zip("qkv", states, strict=False):
                    values = x.astype("float32").numpy()
                    for number in heads:
                        rows = relation_entropies(values, batch.attention_mask, number)
                        entropies[layer, number, name].append(rows)
            progress.add(1)
    return {key: float(np.concatenate(rows).mean()) for key, rows in entropies.items()}


def probe_accuracies(teacher, directory: Path, texts: Labelled) -> dict[int, float]:
    """Layer to accuracy of a linear probe on its mean-pooled output."""
    features = {
        part: pooled_outputs(teacher, directory, [text for text, _ in pairs])
        for part, pairs in (("train", texts.train), ("held_out", texts.held_out))
    }
    labels = [[label for _, label in pairs] for pairs in (texts.train, texts.held_out)]
    return {
        layer: linear_probe.accuracy(
            features["train"][layer], labels[0], features["held_out"][layer], labels[1]
        )
        for layer in features["train"]
    }


def pooled_outputs(teacher, directory: Path, texts: list[str]) -> dict[int, np.ndarray]:
    """Layer to mean output over the tokens of each text, float32 [n, hidden size]."""
    from data_pipeline.text.encode import WordPieceEncoder
    from pretrain.encoders.config import locate

    encoder = WordPieceEncoder.of_directory(locate(directory))
    ids, _ = encoder.classify(texts, None, PROBE_LENGTH)
    features = defaultdict(list)
    with Progress("linear probe", len(texts), "text") as progress, paddle.no_grad():
        for start in range(0, len(ids), 4 * BATCH):
            rows = ids[start : start + 4 * BATCH]
            mask = np.zeros((len(rows), max(map(len, rows))), np.int64)
            padded = np.full(mask.shape, teacher.config.pad_token_id, np.int64)
            for index, row in enumerate(rows):
                padded[index, : len(row)], mask[index, : len(row)] = row, 1
            inputs = paddle.to_tensor(padded), paddle.to_tensor(mask)
            for layer, states in enumerate(states_of_layers(teacher, *inputs), 1):
                features[layer].append(
                    linear_probe.pooled(states[3].astype("float32").numpy(), mask)
                )
            progress.add(len(rows))
    return {layer: np.concatenate(parts) for layer, parts in features.items()}


def short_distillation(
    recipe: DistillRecipe, settings: Settings, layer: int, heads: int
) -> dict[str, float]:
    """First and last relation loss of a short run with this teacher layer and R.

    Losses of layers differ in scale, as their relations differ in sharpness; `loss_share` is what
    is left of the first one. Last: the mean over the last quarter of the records.
    """
    steps = settings.steps
    changes = {
        "output_dir": settings.output / "runs" / f"layer-{layer}-heads-{heads}",
        "teacher": recipe.teacher.model_copy(update={"layer": layer}),
        "relations": recipe.relations.model_copy(update={"heads": heads}),
        "optimizer": recipe.optimizer.model_copy(
            update={
                "total_steps": steps,
                "warmup_steps": min(recipe.optimizer.warmup_steps, steps // 10),
            }
        ),
        "monitor": recipe.monitor.model_copy(update={"log_every_steps": max(1, steps // 20)}),
        "checkpoint": recipe.checkpoint.model_copy(update={"every_steps": steps, "keep_last": 1}),
    }
    short = recipe.model_copy(update=changes)
    if not is_finished(short):
        code = entry.train(short, run.build)
        if code:
            raise UserError(f"{short.output_dir}: stopped; the same command continues", code)
    losses = [record["loss/total"] for record in read_metrics(short.output_dir / "metrics.jsonl")]
    last = float(np.mean(losses[-max(1, len(losses) // 4) :]))
    return {"first_loss": losses[0], "last_loss": last, "loss_share": last / losses[0]}


def table(result: dict) -> str:
    """Columns of figures, a row for each layer and R."""
    names = list(result["rows"][0])
    widths = [max(len(name), 6) for name in names]
    lines = ["  ".join(name.rjust(width) for name, width in zip(names, widths, strict=True))]
    for row in result["rows"]:
        cells = (
            f"{value:.4f}" if isinstance(value, float) else str(value) for value in row.values()
        )
        lines.append("  ".join(c.rjust(width) for c, width in zip(cells, widths, strict=True)))
    lines.append(
        "entropies: share of a uniform relation's (1: nothing to learn); the commonest label "
        f"alone has accuracy {result['majority_share']:.4f}"
    )
    return "\n".join(lines)


def draw(result: dict, path: Path) -> None:
    """Three panels over the layers: entropy, linear probe, loss left after a short distillation."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 3)
    by_heads = defaultdict(list)
    for row in result["rows"]:
        by_heads[row["heads"]].append(row)
    for number, (heads, rows) in enumerate(by_heads.items()):
        layers, style = [row["layer"] for row in rows], dict(marker="o", color=f"C{number}")
        for x, line in (("q", "-"), ("k", "--"), ("v", ":")):
            values = [row[f"entropy_{x}"] for row in rows]
            panels[0].plot(layers, values, line, label=f"{x.upper()}, R {heads}", **style)
        if "loss_share" in rows[0]:
            panels[2].plot(layers, [row["loss_share"] for row in rows], label=f"R {heads}", **style)
    first = next(iter(by_heads.values()))
    accuracy = [100 * row["linear_probe_accuracy"] for row in first]
    panels[1].plot([row["layer"] for row in first], accuracy, marker="o", label="linear probe")
    panels[1].axhline(100 * result["majority_share"], color="grey", linestyle=":", label="majority")
    titles = (
        "relation entropy / that of a uniform row",
        "linear probe on the layer's output, %",
        f"share of the first loss left after {result['steps']} steps",
    )
    for panel, title in zip(panels, titles, strict=True):
        panel.set_title(title, fontsize=10)
        panel.set_xlabel("teacher layer")
        panel.grid(alpha=0.3)
        if panel.get_legend_handles_labels()[0]:
            panel.legend(fontsize=8)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
