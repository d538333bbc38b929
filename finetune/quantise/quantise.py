"""From an exported FP32 model to an INT8 one that is written only if it is good enough."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.base.errors import UserError
from data_pipeline.base.files import write_json
from data_pipeline.base.machine import int8_weight_peak
from data_pipeline.text import tokenizer
from finetune.deploy.backends import inference_settings, read_deploy
from finetune.deploy.onnx_graph import Graph
from finetune.deploy.predict import Predictor
from finetune.quantise import checks, onnx_int8
from finetune.quantise.calibration import range_of
from finetune.quantise.gate import check_loss
from finetune.quantise.observe import observe
from finetune.quantise.qat_scales import trained_ranges
from finetune.recipes import QuantiseRecipe
from finetune.settings import QuantiseSettings
from finetune.tasks import Task, open_task
from finetune.training.batches import Encoded
from finetune.training.files import check_fits

Ranges = dict[str, tuple[float, float]]


def quantise_model(recipe: QuantiseRecipe, directory: Path) -> None:
    """Write the INT8 form of `recipe.model` into `directory`."""
    source, settings = Path(recipe.model), recipe.quantise
    task = open_task(recipe.task)
    fp32 = open_source(source, task)
    dev, train = (fp32.encode_examples(task.split(split)) for split in ("dev", "train"))
    calibration = calibration_batches(train, settings)
    fp32_file, int8_file = source / "model.onnx", directory / "model.onnx"
    quantise_file(fp32_file, int8_file, settings, calibration, source)
    products = len(onnx_int8.products(Graph(fp32_file)))
    runtime = read_deploy(source)["backend"]
    evidence: dict[str, Any] = {
        "kernels": checks.require_int8_kernels(int8_file, calibration[0], products, runtime),
        "layer_errors": checks.layer_errors(fp32_file, int8_file, calibration[0]),
    }
    tokenizer.copy(source, directory)
    shutil.copyfile(source / "labels.json", directory / "labels.json")
    deploy = read_deploy(source) | {
        "precision": "int8",
        "mode": settings.mode,
        "weight_peak": weight_peak(settings),
    }
    write_json(directory / "deploy.json", deploy)
    score = dev.score_name(settings.choose_by)
    before, after = (
        dev.scores(predictor.encoded_logits(dev))[score]
        for predictor in (fp32, Predictor(directory))
    )
    evidence["dev"] = check_loss(score, before, after, settings, evidence["layer_errors"])
    write_json(directory / "deploy.json", deploy | evidence)


def open_source(source: Path, task: Task) -> Predictor:
    """An FP32 ONNX export, to be quantised for a task; UserError when it is none or does not fit
    the task."""
    if not (source / "model.onnx").is_file():
        raise UserError(f"{source}: no model.onnx; INT8 is made from an ONNX export")
    if read_deploy(source).get("precision") == "int8":
        raise UserError(f"{source}: is INT8 already; INT8 is made from an FP32 export")
    if inference_settings(source).device == "gpu":
        raise UserError(
            f"{source}: exported for a GPU, and INT8 is computed on CPUs; export it with "
            "inference.device: cpu"
        )
    fp32 = Predictor(source)
    check_fits(fp32.kind, fp32.labels, task, source)
    return fp32


def calibration_batches(data: Encoded, settings: QuantiseSettings) -> list[dict]:
    """Batches of training examples, chosen by a fixed seed."""
    count = min(settings.batches * settings.batch_size, len(data))
    rows = np.random.default_rng(0).permutation(len(data))[:count]
    rows = rows[np.argsort(data.lengths[rows], kind="stable")]
    return [
        data.take(rows[i : i + settings.batch_size]) for i in range(0, count, settings.batch_size)
    ]


def quantise_file(
    fp32: Path, int8: Path, settings: QuantiseSettings, calibration: list[dict], source: Path
) -> None:
    """Write the INT8 graph of an exported FP32 graph in the way `settings` asks for."""
    per_channel, peak = settings.per_channel, weight_peak(settings)
    if settings.mode == "dynamic":
        onnx_int8.quantise_dynamic(fp32, int8, per_channel=per_channel, peak=peak)
    else:
        ranges = RANGES[settings.mode](fp32, settings, calibration, source)
        onnx_int8.quantise_static(fp32, int8, ranges, per_channel=per_channel, peak=peak)


def weight_peak(settings: QuantiseSettings) -> int:
    """Largest absolute INT8 weight that the settings ask for, on this machine."""
    return int8_weight_peak() if settings.weight_peak == "auto" else settings.weight_peak


def calibrated_ranges(
    fp32: Path, settings: QuantiseSettings, calibration: list[dict], _: Path
) -> Ranges:
    """Range of every product's input, from calibration batches."""
    inputs = sorted({node.input[0] for node in onnx_int8.products(Graph(fp32))})
    return {
        name: range_of(observed, settings.calibration, settings.percentile)
        for name, observed in observe(fp32, inputs, calibration).items()
    }


def ranges_from_training(fp32: Path, _: QuantiseSettings, __: list[dict], source: Path) -> Ranges:
    """Range of every product's input, as quantisation-aware training left it in `source`."""
    return trained_ranges(Graph(fp32), source)


RANGES: dict[str, Callable[[Path, QuantiseSettings, list[dict], Path], Ranges]] = {
    "static": calibrated_ranges,
    "qat": ranges_from_training,
}
