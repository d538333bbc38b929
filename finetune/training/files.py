"""Small files of a classifier directory, which are read without Paddle."""

import json
from pathlib import Path

from data_pipeline.base.errors import UserError

ACTIVATION_SCALES = "activation_scales.json"  # of quantisation-aware training


def read_labels(directory: Path) -> list[str]:
    """The names of the classes, in the order of the logits."""
    path = Path(directory) / "labels.json"
    try:
        labels = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(
            f"{path}: missing or not JSON; a classifier directory is what `train` writes"
        ) from None
    if not isinstance(labels, list) or len(labels) < 2:
        raise UserError(f"{path}: must be a list of two or more label names")
    return labels


def check_labels(labels: list[str], of_task: list[str], where: Path) -> None:
    """UserError unless a model's labels are those of the task, in the same order."""
    if labels != of_task:
        raise UserError(
            f"{where}: the model's {len(labels)} labels are not the task's {len(of_task)}: "
            f"{', '.join(labels[:5])} against {', '.join(of_task[:5])}; a model fits the task that "
            "it was fine-tuned on"
        )


def read_result(directory: Path) -> dict:
    """result.json of a classifier directory: task, scores, settings; {} when it has none."""
    path = Path(directory) / "result.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def kind_of(config: dict) -> str:
    """The kind of task that a classifier's config.json was saved for."""
    names = config.get("architectures") or [""]
    return "tokens" if str(names[0]).endswith("ForTokenClassification") else "classification"
