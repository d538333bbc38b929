"""Checks of an INT8 model: which kernels its runtime uses, and where INT8 differs from FP32."""

import json
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from data_pipeline.base.errors import UserError
from finetune.deploy.backends import OnnxBackend
from finetune.deploy.onnx_graph import Graph
from finetune.quantise import observe

INT8_KERNELS = {
    "DynamicQuantizeMatMul",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "QAttention",
    "QGemm",
    "QLinearMatMul",
}
INT8_LAYERS = {"FullyConnected", "MatMul"}  # OpenVINO's names of products


def onnxruntime_kernels(path: Path, batch: dict[str, np.ndarray]) -> Counter:
    """How often each integer kernel ran in one call, from ONNX Runtime's profile."""
    with tempfile.TemporaryDirectory() as directory:
        backend = OnnxBackend(path, profile=Path(directory) / "profile")
        backend.logits(batch["input_ids"], batch["token_type_ids"])
        events = json.loads(Path(backend.session.end_profiling()).read_text(encoding="utf-8"))
    return Counter(
        event["args"]["op_name"]
        for event in events
        if event.get("cat") == "Node"
        and event["name"].endswith("_kernel_time")
        and event["args"]["op_name"] in INT8_KERNELS
    )


def openvino_kernels(path: Path, _: dict[str, np.ndarray]) -> Counter:
    """The products that OpenVINO computes in integers, from its compiled graph."""
    from finetune.deploy.backend_openvino import OpenVinoBackend

    operations = OpenVinoBackend(path).model.get_runtime_model().get_ops()
    infos = [operation.get_rt_info() for operation in operations]
    kinds = [(info["layerType"].value, info["runtimePrecision"].value) for info in infos]
    return Counter(
        name for name, numbers in kinds if name in INT8_LAYERS and str(numbers) in ("u8", "i8")
    )


KERNELS = {"onnxruntime": onnxruntime_kernels, "openvino": openvino_kernels}


def require_int8_kernels(
    path: Path, batch: dict[str, np.ndarray], products: int, runtime: str = "onnxruntime"
) -> dict[str, int]:
    """Counts of the integer kernels; UserError when they are fewer than `products`."""
    counts = KERNELS[runtime](path, batch)
    if sum(counts.values()) < products:
        raise UserError(
            f"{path}: {products} products were quantised but {runtime} runs {dict(counts) or 'no'} "
            "INT8 kernels" + ("; it has none for mode: dynamic" if runtime == "openvino" else "")
        )
    return dict(counts)


def layer_errors(fp32: Path, int8: Path, batch: dict[str, np.ndarray]) -> list[dict]:
    """Relative RMS error after every LayerNormalization, in order: where precision is lost.

    The first is after the embeddings, then two a layer: attention, feed-forward.
    """
    names = [
        node.output[0]
        for node in Graph(fp32).model.graph.node
        if node.op_type == "LayerNormalization"
    ]
    exact, rounded = (
        observe.run(observe.open_with_outputs(path, names), names, batch) for path in (fp32, int8)
    )
    rows = []
    for number, (expected, value) in enumerate(zip(exact, rounded, strict=True)):
        error = np.sqrt(((value - expected) ** 2).mean()) / max(
            np.sqrt((expected**2).mean()), 1e-12
        )
        rows.append({"after": _layer_part(number), "relative_error": round(float(error), 5)})
    return rows


def _layer_part(number: int) -> str:
    if number == 0:
        return "embeddings"
    part = "attention" if number % 2 else "feed-forward"
    return f"layer {(number + 1) // 2} {part}"
