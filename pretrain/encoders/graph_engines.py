"""Engines that run the teacher as a graph on the CPU: ONNX Runtime and OpenVINO.

Both read what `onnx_encoder.build` writes, which begins at the embeddings' output.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import paddle
from paddle import Tensor, nn

from data_pipeline.base.errors import UserError
from data_pipeline.base.openvino_cpu import compile_model, has_bfloat16
from pretrain.encoders import device
from pretrain.encoders.compute import Engine
from pretrain.encoders.onnx_encoder import Product, build
from pretrain.encoders.states import embedder

SCALED_TOGETHER = 128
"""Values of a token that share a scale where OpenVINO quantises them as they come: fewer are more
exact and slower."""


def onnx_runtime(teacher: nn.Layer, layer: int, with_hidden: bool, product: Product) -> Engine:
    """The teacher in ONNX Runtime."""
    import onnxruntime

    _require_cpu()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _threads()
    # Its threads would spin while Paddle's compute, on the same cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    model, constants = build(teacher, layer, with_hidden, product)
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(value) for value in constants.values()]
    options.add_external_initializers(list(constants), values)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def run(feed: dict[str, np.ndarray], _=constants) -> list[np.ndarray]:
        return session.run(None, feed)  # it reads the constants in place: they live as long as it

    return _engine(teacher, run)


def openvino(
    teacher: nn.Layer, layer: int, with_hidden: bool, product: Product, bfloat16: bool = False
) -> Engine:
    """The teacher in OpenVINO. UserError for bfloat16 on a CPU without it."""
    _require_cpu()
    if bfloat16 and not has_bfloat16():
        raise UserError(
            "teacher.engine: this processor does not multiply bfloat16 numbers (AVX512_BF16 or AMX "
            "is needed); use openvino or openvino_int8"
        )
    model, constants = build(teacher, layer, with_hidden, product)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "teacher.onnx"
        path.write_bytes(model)
        for name, value in constants.items():  # where the graph says that they lie
            value.tofile(path.with_name(name))
        compiled = compile_model(
            path, _threads(), bfloat16=bfloat16, DYNAMIC_QUANTIZATION_GROUP_SIZE=SCALED_TOGETHER
        )

    def run(feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        results = compiled(feed, share_outputs=True)  # copied right away
        return [results[number] for number in range(len(compiled.outputs))]

    return _engine(teacher, run)


def _engine(teacher: nn.Layer, run: Callable[[dict[str, np.ndarray]], list[np.ndarray]]) -> Engine:
    """Embeddings in Paddle, the rest by `run`."""
    embed = embedder(teacher)

    @paddle.no_grad()
    def compute(input_ids: Tensor, mask: Tensor) -> list[Tensor]:
        feed = {"embedded": embed(input_ids).numpy(), "mask": mask.numpy().astype(np.int32)}
        return [paddle.to_tensor(array) for array in run(feed)]

    return compute


def _threads() -> int:
    return int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)


def _require_cpu() -> None:
    if device.on_gpu():
        raise UserError(
            "teacher.engine: ONNX Runtime and OpenVINO run the teacher on the CPU, which would "
            "slow a GPU down; use dynamic or static"
        )
