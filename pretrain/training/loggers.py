"""Curves of a run, besides metrics.jsonl. Each logger is one function and one entry in LOGGERS.

A logger is opened with the run's directory, the records so far (of a resumed run) and its recipe.
Libraries are imported when one is opened, so that recipes can be checked without them.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import yaml

from data_pipeline.base.errors import UserError
from data_pipeline.base.functions import load_function


class Logger(Protocol):
    """Draws named numbers by step."""

    def write(self, step: int, numbers: dict[str, float]) -> None:
        """Draw the numbers of one record."""

    def close(self) -> None:
        """Write everything out."""


COMPARED = ("loss/total", "speed/sequences_per_s")  # next to hyper-parameters in VisualDL

OpenLogger = Callable[[Path, list[dict], dict], Logger]  # (output_dir, records, recipe)


def open_loggers(
    names: tuple[str, ...], output_dir: Path, records: list[dict], recipe: dict
) -> list[Logger]:
    """The loggers of these names; UserError when the library of one is not installed."""
    return [
        (LOGGERS[name] if name in LOGGERS else load_function(name))(output_dir, records, recipe)
        for name in names
    ]


def open_visualdl(output_dir: Path, records: list[dict], recipe: dict) -> Logger:
    """VisualDL, in `output_dir`/vdl: the curves, drawn again on resume, without overlap; the
    recipe as text; its values as hyper-parameters, so that runs can be compared by them."""
    from visualdl import LogWriter

    folder = output_dir / "vdl"
    shutil.rmtree(folder, ignore_errors=True)
    writer = LogWriter(logdir=str(folder))
    if recipe:
        writer.add_text("recipe", yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True), 0)
        writer.add_hparams(hyper_parameters(recipe), list(COMPARED))
    return _Drawing(writer.add_scalar, writer, records)


def open_tensorboard(output_dir: Path, records: list[dict], recipe: dict) -> Logger:
    """TensorBoard, in `output_dir`/tensorboard; drawn again as VisualDL's."""
    SummaryWriter = _imported("tensorboardX", "tensorboard").SummaryWriter
    folder = output_dir / "tensorboard"
    shutil.rmtree(folder, ignore_errors=True)
    writer = SummaryWriter(str(folder))
    return _Drawing(writer.add_scalar, writer, records)


def open_wandb(output_dir: Path, records: list[dict], recipe: dict) -> Logger:
    """Weights & Biases, as one run that goes on when this one is resumed. Project and entity come
    from its own variables (WANDB_PROJECT, WANDB_ENTITY)."""
    wandb = _imported("wandb", "wandb")
    name = "-".join(output_dir.absolute().parts[-2:])
    run = wandb.init(dir=str(output_dir), name=name, id=name, resume="allow", config=recipe)
    return _WeightsAndBiases(run)


LOGGERS: dict[str, OpenLogger] = {
    "visualdl": open_visualdl,
    "tensorboard": open_tensorboard,
    "wandb": open_wandb,
}


def hyper_parameters(recipe: dict, prefix: str = "") -> dict[str, int | float | str]:
    """The values of a recipe by `section/field`; what is no number is written as text.

    VisualDL's table shows nothing under a name with a dot.
    """
    values: dict[str, int | float | str] = {}
    for name, value in recipe.items():
        if isinstance(value, dict):
            values |= hyper_parameters(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            values[f"{prefix}{name}"] = value
        else:
            values[f"{prefix}{name}"] = str(value)
    return values


class _Drawing:
    """A logger that has one call a number."""

    def __init__(self, add_scalar: Callable[[str, float, int], None], writer, records: list[dict]):
        self._add_scalar, self._writer = add_scalar, writer
        for record in records:
            self.write(record["step"], {k: v for k, v in record.items() if k != "step"})

    def write(self, step: int, numbers: dict[str, float]) -> None:
        for name, value in numbers.items():
            self._add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _WeightsAndBiases:
    def __init__(self, run):
        self._run = run

    def write(self, step: int, numbers: dict[str, float]) -> None:
        self._run.log(numbers, step=step)

    def close(self) -> None:
        self._run.finish()


def _imported(module: str, logger: str):
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError:
        raise UserError(
            f"monitor.loggers: {logger} needs the package {module}: pip install {module}"
        ) from None
