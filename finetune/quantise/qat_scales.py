"""Activation scales from quantisation-aware training, and the products they belong to."""

import json
from pathlib import Path

import numpy as np

from data_pipeline.base.errors import UserError
from data_pipeline.base.files import write_json
from finetune.deploy.onnx_graph import Graph
from finetune.quantise.onnx_int8 import products
from finetune.training.files import ACTIVATION_SCALES


def write_scales(directory: Path, scales: dict[str, tuple[np.ndarray, float]]) -> None:
    """`scales`: layer name to (its weight, largest |input| of the trained grid)."""
    rows = [
        {"layer": name, "weight": fingerprint(weight), "abs_max": float(peak)}
        for name, (weight, peak) in scales.items()
    ]
    write_json(Path(directory) / ACTIVATION_SCALES, rows)


def trained_ranges(graph: Graph, source: Path) -> dict[str, tuple[float, float]]:
    """Range of every product's input; a product and its layer are matched by their weights.

    Training rounds to 127 steps either side of 0; uint8 has 128 below and 127 above its middle, so
    [-128/127 T, T] puts the same grid under both.
    """
    path = Path(source) / ACTIVATION_SCALES
    if not path.exists():
        raise UserError(f"{path}: missing; `mode: qat` needs a model that `qat` trained")
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        peaks = {str(row["weight"]): float(row["abs_max"]) for row in rows}
    except (OSError, ValueError, TypeError, KeyError):
        raise UserError(
            f"{path}: must be a list of objects with weight and abs_max, as `qat` writes it"
        ) from None
    ranges: dict[str, tuple[float, float]] = {}
    for node in products(graph):
        key = fingerprint(graph.value(node.input[1]))
        if key not in peaks:
            raise UserError(f"{path}: no scale for the product {node.name!r}")
        peak = max(peaks[key], ranges.get(node.input[0], (0.0, 0.0))[1])
        ranges[node.input[0]] = (-128 / 127 * peak, peak)
    return ranges


def fingerprint(weight: np.ndarray) -> str:
    """Hash of a float32 weight's bytes."""
    import hashlib

    return hashlib.sha256(np.ascontiguousarray(weight, np.float32).tobytes()).hexdigest()[:32]
