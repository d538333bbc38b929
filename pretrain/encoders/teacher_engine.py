"""How the frozen teacher is run: by the training framework, or by something faster.

Each kind of `compute.Engine` is one function, `(teacher, layer, with_hidden, attention) -> engine`,
and one entry in ENGINES; attention is `compute.Compute.attention`, which those outside Paddle
ignore. Paddle is imported when one is opened, so that recipes can be checked against ENGINES
without it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from data_pipeline.base.functions import load_function
from pretrain.encoders.compute import Engine

if TYPE_CHECKING:
    from paddle import Tensor, nn


def open_engine(
    kind: str,
    teacher: "nn.Layer",
    layer: int,
    with_hidden: bool,
    dtype: str = "float32",
    attention: str = "plain",
) -> Engine:
    """Freeze `teacher` and make it ready to run; `kind` is `settings.Teacher.engine`.

    dtype: format of its weights from now on. They are frozen, so a half-precision run converts them
    once, not in every step.
    """
    teacher.eval()
    if dtype != "float32":
        teacher.to(dtype=dtype)
    for parameter in teacher.parameters():
        parameter.stop_gradient = True
    open_kind = ENGINES[kind] if kind in ENGINES else load_function(kind)
    return open_kind(teacher, layer, with_hidden, attention)


def open_dynamic(teacher: "nn.Layer", layer: int, with_hidden: bool, attention: str) -> Engine:
    """Paddle, operation by operation."""
    return _without_gradients(truncated(teacher, layer, with_hidden, attention))


def open_static(teacher: "nn.Layer", layer: int, with_hidden: bool, attention: str) -> Engine:
    """Paddle, as one compiled graph for all shapes."""
    import paddle

    spec = [paddle.static.InputSpec([None, None], "int64", name) for name in ("input_ids", "mask")]
    states = truncated(teacher, layer, with_hidden, attention)
    # Without full_graph the input spec is ignored, and each new length is compiled again.
    return _without_gradients(paddle.jit.to_static(states, input_spec=spec, full_graph=True))


def open_onnx(teacher: "nn.Layer", layer: int, with_hidden: bool, attention: str) -> Engine:
    """ONNX Runtime from the embeddings' output on, in float32."""
    from pretrain.encoders import graph_engines, onnx_encoder

    return graph_engines.onnx_runtime(teacher, layer, with_hidden, onnx_encoder.float_product)


def open_onnx_int8(teacher: "nn.Layer", layer: int, with_hidden: bool, attention: str) -> Engine:
    """ONNX Runtime from the embeddings' output on, with INT8 products."""
    from pretrain.encoders import graph_engines, onnx_encoder

    return graph_engines.onnx_runtime(teacher, layer, with_hidden, onnx_encoder.int8_product)


def open_openvino(teacher: "nn.Layer", layer: int, with_hidden: bool, attention: str) -> Engine:
    """OpenVINO from the embeddings' output on, in float32."""
    from pretrain.encoders import graph_engines, onnx_encoder

    return graph_engines.openvino(teacher, layer, with_hidden, onnx_encoder.float_product)


def open_openvino_bfloat16(
    teacher: "nn.Layer", layer: int, with_hidden: bool, attention: str
) -> Engine:
    """OpenVINO from the embeddings' output on, in bfloat16; UserError where the CPU has none."""
    from pretrain.encoders import graph_engines, onnx_encoder

    product = onnx_encoder.float_product
    return graph_engines.openvino(teacher, layer, with_hidden, product, bfloat16=True)


def open_openvino_int8(
    teacher: "nn.Layer", layer: int, with_hidden: bool, attention: str
) -> Engine:
    """OpenVINO from the embeddings' output on: INT8 products, the rest in bfloat16 where the CPU
    has it. The inputs of a product have a scale for every 128 of a token's values."""
    from data_pipeline.base.openvino_cpu import has_bfloat16
    from pretrain.encoders import graph_engines, onnx_encoder

    product = onnx_encoder.int8_weight_product
    return graph_engines.openvino(teacher, layer, with_hidden, product, bfloat16=has_bfloat16())


ENGINES: dict[str, Callable[["nn.Layer", int, bool, str], Engine]] = {
    "dynamic": open_dynamic,
    "static": open_static,
    "onnx": open_onnx,
    "onnx_int8": open_onnx_int8,
    "openvino": open_openvino,
    "openvino_bfloat16": open_openvino_bfloat16,
    "openvino_int8": open_openvino_int8,
}
APPROXIMATE = ("onnx_int8", "openvino_bfloat16", "openvino_int8")
"""Those whose numbers are not the exact ones: a run measures and logs how far its relations are
off."""


def truncated(teacher: "nn.Layer", layer: int, with_hidden: bool, attention: str) -> "nn.Layer":
    """A layer whose forward is `states_at`."""
    from paddle import nn

    from pretrain.encoders.compute import Compute
    from pretrain.encoders.states import states_at

    compute = Compute(attention=attention)

    class Truncated(nn.Layer):
        def __init__(self):
            super().__init__()
            self.encoder = teacher

        def forward(self, input_ids, mask):
            return states_at(self.encoder, input_ids, mask, layer, with_hidden, compute)

    module = Truncated()
    module.eval()
    return module


def _without_gradients(states: "nn.Layer") -> Engine:
    import paddle

    @paddle.no_grad()
    def compute(input_ids: "Tensor", mask: "Tensor") -> "list[Tensor]":
        return list(states(input_ids, mask))

    return compute
