"""Small files of a classifier directory, which are read without Paddle."""

import json
from pathlib import Path

from data_pipeline.base.errors import UserError
from data_pipeline.text import tokenizer
from finetune.tasks import Task
from pretrain.encoders.config import DEFAULT_SIZES, family_of, first_position, read_config

ACTIVATION_SCALES = "activation_scales.json"  # of quantisation-aware training


def read_labels(directory: Path, least: int = 2) -> list[str]:
    """The names of the classes, in the order of the logits: labels.json, or else `id2label` of
    config.json, as transformers writes it. UserError when there are less than `least`."""
    path = Path(directory) / "labels.json"
    try:
        labels = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        labels = _labels_of_config(Path(directory) / "config.json")
    except (OSError, ValueError, RecursionError):
        labels = None
    if labels is None:
        raise UserError(
            f"{path}: missing or not JSON; a classifier directory is what `train` writes, or one "
            "of transformers with id2label in its config.json"
        )
    if (
        not isinstance(labels, list)
        or len(labels) < least
        or not all(isinstance(label, str) for label in labels)
        or len(set(labels)) < len(labels)
    ):
        raise UserError(f"{path}: must be a list of {least} or more different label names")
    return labels


def _labels_of_config(path: Path) -> list[str] | None:
    """The names in `id2label`, in the order of their numbers; None where there are none."""
    try:
        names = json.loads(path.read_text(encoding="utf-8"))["id2label"]
        return [names[str(index)] for index in range(len(names))]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def check_fits(kind: str, labels: list[str], task: Task, where: Path) -> None:
    """UserError unless a model is of the task's kind and has its labels, in the same order."""
    cure = "a model fits the task that it was fine-tuned on"
    if kind != task.kind:
        raise UserError(f"{where}: a model of kind {kind!r}, the task's is {task.kind!r}; {cure}")
    if labels != task.labels:
        raise UserError(
            f"{where}: the model's {len(labels)} labels are not the task's {len(task.labels)}: "
            f"{', '.join(labels[:5])} against {', '.join(task.labels[:5])}; {cure}"
        )


def check_length(encoder: Path | str, max_length: int) -> None:
    """UserError when `max_length` is more than the positions of a model directory."""
    config = read_config(encoder)
    sizes = DEFAULT_SIZES | config
    family = family_of(config, str(encoder))
    first = first_position(family, config.get("pad_token_id", 0))
    positions = sizes["max_position_embeddings"]
    if not isinstance(positions, int):
        raise UserError(
            f"{encoder}/config.json: max_position_embeddings {positions!r} is not a whole number"
        )
    positions -= first
    if max_length > positions:
        raise UserError(
            f"max_length: {max_length} is more than the {positions} positions of {encoder}"
        )


def read_result(directory: Path) -> dict:
    """result.json of a classifier directory: task, scores, settings. Where there is none, only
    `max_length`, if tokenizer_config.json states it."""
    path = Path(directory) / "result.json"
    if not path.exists():
        longest = tokenizer.longest_text(directory)
        return {"max_length": longest} if longest else {}
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: unreadable: {error}") from None
    if not isinstance(result, dict):
        raise UserError(f"{path}: must be a JSON object, is {str(result)[:60]}")
    length = result.get("max_length", 4)
    if not isinstance(length, int) or isinstance(length, bool) or length < 4:
        raise UserError(f"{path}: max_length {length!r} is not a whole number of 4 or more")
    check_threshold(result, path)
    return result


def check_threshold(about: dict, where: Path) -> None:
    """UserError unless the threshold of a file, if it has one, is a probability."""
    value = about.get("threshold", 0.5)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise UserError(f"{where}: threshold {value!r} is not a number between 0 and 1")
