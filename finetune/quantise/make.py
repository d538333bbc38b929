"""From an exported FP32 model to an INT8 one that is let through only if it is good enough."""

import shutil
import tempfile
from pathlib import Path

import numpy as np

from data_pipeline.base.errors import UserError
from data_pipeline.base.files import write_json
from data_pipeline.base.machine import int8_weight_peak
from finetune.deploy.backends import read_deploy
from finetune.deploy.onnx_graph import Graph, fuse_attention, simplified
from finetune.deploy.predict import Predictor
from finetune.quantise import onnx_int8, proof, ranges
from finetune.quantise.qat_scales import learnt_ranges
from finetune.recipes import QuantiseRecipe
from finetune.settings import QuantiseSettings
from finetune.tasks import open_task
from finetune.training.batches import Encoded, encode
from finetune.training.scores import scores


class LossTooLargeError(UserError):
    """The INT8 model loses more accuracy than is allowed."""


def make(recipe: QuantiseRecipe, directory: Path) -> None:
    """Fill `directory` with the INT8 form of `recipe.model`."""
    source, settings = Path(recipe.model), recipe.quantise
    if not (source / "model.onnx").is_file():
        raise UserError(f"{source}: no model.onnx; INT8 is made from an ONNX export")
    fp32 = Predictor(source)
    task = open_task(recipe.task)
    dev = encode(fp32.encoder, task.split("dev"), fp32.max_length)
    train = encode(fp32.encoder, task.split("train"), fp32.max_length)
    calibration = calibration_batches(train, settings)
    with tempfile.TemporaryDirectory() as temporary:
        fused = Path(temporary) / "fused.onnx"
        fuse(source / "model.onnx", fused)
        quantise_file(fused, directory / "model.onnx", settings, calibration, source)
        evidence = {
            "kernels": proof.prove_int8(
                directory / "model.onnx", calibration[0], len(onnx_int8.products(Graph(fused)))
            ),
            "layer_errors": proof.layer_errors(fused, directory / "model.onnx", calibration[0]),
        }
    for name in ("vocab.txt", "labels.json"):
        shutil.copyfile(source / name, directory / name)
    deploy = read_deploy(source) | {
        "precision": "int8",
        "mode": settings.mode,
        "weight_peak": weight_peak(settings),
    }
    write_json(directory / "deploy.json", deploy)
    evidence["dev"] = gate(fp32, Predictor(directory), dev, settings, evidence["layer_errors"])
    write_json(directory / "deploy.json", deploy | evidence)


def fuse(source: Path, output: Path) -> None:
    """The FP32 graph in the operators that ONNX Runtime is quickest in; the same logits."""
    simplified(source, output)
    graph = Graph(output)
    fuse_attention(graph)
    graph.save(output)


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
    """Write the INT8 graph of a (fused) FP32 graph in the way `settings` asks for."""
    options = {"per_channel": settings.per_channel, "peak": weight_peak(settings)}
    if settings.mode == "dynamic":
        onnx_int8.quantise_dynamic(fp32, int8, **options)
        return
    graph = Graph(fp32)
    if settings.mode == "qat":
        found = learnt_ranges(graph, source)
    else:
        inputs = sorted({node.input[0] for node in onnx_int8.products(graph)})
        seen = ranges.observe(fp32, inputs, calibration)
        found = {
            name: ranges.range_of(one, settings.calibration, settings.percentile)
            for name, one in seen.items()
        }
    onnx_int8.quantise_static(fp32, int8, found, **options)


def weight_peak(settings: QuantiseSettings) -> int:
    """Largest absolute INT8 weight that the settings ask for, on this machine."""
    return int8_weight_peak() if settings.weight_peak == "auto" else settings.weight_peak


def gate(
    fp32: Predictor, int8: Predictor, dev: Encoded, settings: QuantiseSettings, errors: list[dict]
) -> dict[str, float]:
    """Dev accuracy before and after; UserError with the error by layer when too much is lost."""
    before = scores(fp32.encoded_logits(dev), dev.labels)["accuracy"]
    after = scores(int8.encoded_logits(dev), dev.labels)["accuracy"]
    drop = 100 * (before - after)
    if settings.allowed_drop is not None and drop > settings.allowed_drop:
        table = "\n".join(f"  {row['relative_error']:8.4f}  {row['after']}" for row in errors)
        raise LossTooLargeError(
            f"INT8 loses {drop:.2f} points on dev, more than quantise.allowed_drop "
            f"({settings.allowed_drop:g}). Relative error by layer:\n{table}\n"
            "  Try per_channel: true, another calibration, more batches, or mode: dynamic or qat."
        )
    return {"fp32": before, "int8": after, "drop_points": round(drop, 3)}
