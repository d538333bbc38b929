"""Evidence from ONNX Runtime itself: which kernels ran, and where INT8 differs from FP32."""

import json
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from data_pipeline.base.errors import UserError
from finetune.deploy.backends import OnnxBackend
from finetune.deploy.onnx_graph import Graph
from finetune.quantise import ranges

INT8_KERNELS = {
    "DynamicQuantizeMatMul",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "QAttention",
    "QGemm",
    "QLinearMatMul",
}


def kernels(path: Path, batch: dict) -> Counter:
    """How often each kernel ran in one call, from ONNX Runtime's profile."""
    with tempfile.TemporaryDirectory() as directory:
        backend = OnnxBackend(path, profile=Path(directory) / "profile")
        backend.logits(batch["input_ids"], batch["token_type_ids"])
        events = json.loads(Path(backend.session.end_profiling()).read_text(encoding="utf-8"))
    return Counter(
        event["args"]["op_name"]
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
    )


def prove_int8(path: Path, batch: dict, products: int) -> dict[str, int]:
    """Kernel counts; UserError when fewer than `products` integer kernels ran."""
    ran = kernels(path, batch)
    integer = {name: count for name, count in ran.items() if name in INT8_KERNELS}
    if sum(integer.values()) < products:
        raise UserError(
            f"{path}: {products} products were quantised but ONNX Runtime ran {integer or 'no'} "
            "INT8 kernels"
        )
    return integer


def layer_errors(fp32: Path, int8: Path, batch: dict) -> list[dict]:
    """Relative RMS error after every LayerNormalization, in order: where precision is lost.

    The first is after the embeddings, then two a layer: attention, feed-forward.
    """
    names = [
        node.output[0]
        for node in Graph(fp32).model.graph.node
        if node.op_type == "LayerNormalization"
    ]
    values = [ranges.run(ranges.exposing(path, names), names, batch) for path in (fp32, int8)]
    rows = []
    for number, (wanted, got) in enumerate(zip(*values, strict=True)):
        error = np.sqrt(((got - wanted) ** 2).mean()) / max(np.sqrt((wanted**2).mean()), 1e-12)
        rows.append({"after": _place(number), "relative_error": round(float(error), 5)})
    return rows


def _place(number: int) -> str:
    if number == 0:
        return "embeddings"
    part = "attention" if number % 2 else "feed-forward"
    return f"layer {(number + 1) // 2} {part}"
