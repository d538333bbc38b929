"""A truncated encoder as an ONNX graph, written node by node from its weights.

From the embeddings to one layer's Q, K and V and nothing further, with ONNX Runtime's fused
operators (com.microsoft), which OpenVINO reads too: attention with a padding mask, residual plus
layer norm. How products with weights are computed is a function, see `Product`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from paddle import nn

from data_pipeline.base.errors import UserError
from data_pipeline.base.machine import FULL_WEIGHT_PEAK, int8_weight_peak

if TYPE_CHECKING:
    from onnx import NodeProto

MICROSOFT = "com.microsoft"
OPSET, MICROSOFT_OPSET, IR_VERSION = 17, 1, 8


class GraphWriter:
    """Nodes in the order in which they were added, and constants by name."""

    def __init__(self, product: "Product", hidden_act: str):
        self.product, self.hidden_act = product, hidden_act
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}

    def constant(self, value: np.ndarray) -> str:
        """Name of a constant."""
        name = f"constant.{len(self.constants)}"
        self.constants[name] = np.ascontiguousarray(value)
        return name

    def node(self, kind: str, inputs: list[str], outputs: int = 1, domain: str = "", **attributes):
        """Name of the output, or names of the outputs, of one more node."""
        from onnx import helper

        names = [f"{kind}.{len(self.nodes)}.{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, domain=domain, **attributes))
        return names[0] if outputs == 1 else names

    def activation(self, x: str) -> str:
        """ReLU, or GELU by the error function."""
        if self.hidden_act == "relu":
            return self.node("Relu", [x])
        return self.node("Gelu", [x], domain=MICROSOFT)

    def residual_norm(self, x: str, residual: str, norm: nn.LayerNorm) -> str:
        """Layer norm of x + residual."""
        weights = [self.constant(w.numpy()) for w in (norm.weight, norm.bias)]
        return self.node(
            "SkipLayerNormalization",
            [x, residual, *weights],
            domain=MICROSOFT,
            epsilon=float(norm._epsilon),
        )


Product = Callable[[GraphWriter, str, np.ndarray, np.ndarray], str]
"""Adds x @ weight + bias to a graph; of (graph, name of x, weight [in, out], bias [out]), gives the
name of the result."""


def float_product(graph: GraphWriter, x: str, weight: np.ndarray, bias: np.ndarray) -> str:
    """In float32, or what the runtime is told to compute in."""
    product = graph.node("MatMul", [x, graph.constant(weight)])
    return graph.node("Add", [product, graph.constant(bias)])


def int8_product(graph: GraphWriter, x: str, weight: np.ndarray, bias: np.ndarray) -> str:
    """INT8 weights; x gets one scale as it comes. ONNX Runtime's own operator."""
    values, scale = int8_columns(weight, int8_weight_peak())
    arrays = (values, scale, np.zeros(len(scale), np.int8), bias)
    names = [graph.constant(array) for array in arrays]
    return graph.node("DynamicQuantizeMatMul", [x, *names], domain=MICROSOFT)


def int8_weight_product(graph: GraphWriter, x: str, weight: np.ndarray, bias: np.ndarray) -> str:
    """INT8 weights, in standard operators; the runtime may quantise x as it comes (OpenVINO)."""
    values, scale = int8_columns(weight, FULL_WEIGHT_PEAK)
    names = [graph.constant(values), graph.constant(scale)]
    product = graph.node("MatMul", [x, graph.node("DequantizeLinear", names, axis=1)])
    return graph.node("Add", [product, graph.constant(bias)])


def int8_columns(weight: np.ndarray, peak: int) -> tuple[np.ndarray, np.ndarray]:
    """int8 [in, out] in [-peak, peak], and a float32 scale for each column, [out]."""
    scale = np.maximum(np.abs(weight).max(axis=0) / peak, 1e-10).astype(np.float32)
    return np.clip(np.round(weight / scale), -peak, peak).astype(np.int8), scale


def write_block(graph: GraphWriter, block: nn.TransformerEncoderLayer, hidden: str) -> str:
    """One whole layer: attention, feed-forward, both with residual and norm."""
    attention = block.self_attn
    q, k, v = project(graph, attention, hidden, graph.product)
    context = graph.node(
        "MultiHeadAttention", [q, k, v, "", "mask"], domain=MICROSOFT, num_heads=attention.num_heads
    )
    context = graph.product(graph, context, *arrays_of(attention.out_proj))
    hidden = graph.residual_norm(context, hidden, block.norm1)
    inner = graph.activation(graph.product(graph, hidden, *arrays_of(block.linear1)))
    inner = graph.product(graph, inner, *arrays_of(block.linear2))
    return graph.residual_norm(inner, hidden, block.norm2)


def project(
    graph: GraphWriter, attention: nn.MultiHeadAttention, hidden: str, product: Product
) -> list[str]:
    """Q, K and V, as one product with the three weights side by side."""
    weights, biases = zip(*(arrays_of(getattr(attention, f"{x}_proj")) for x in "qkv"), strict=True)
    joined = product(graph, hidden, np.concatenate(weights, axis=1), np.concatenate(biases))
    return graph.node("Split", [joined], outputs=3, axis=2)


def arrays_of(linear: nn.Linear) -> tuple[np.ndarray, np.ndarray]:
    """Weight [in, out] and bias [out]."""
    return linear.weight.numpy(), linear.bias.numpy()


def declared(name: str, value: np.ndarray):
    """A constant of a graph whose value is passed next to the model, not in it."""
    from onnx import StringStringEntryProto, TensorProto, helper

    return TensorProto(
        name=name,
        dims=value.shape,
        data_type=helper.np_dtype_to_tensor_dtype(value.dtype),
        data_location=TensorProto.EXTERNAL,
        external_data=[StringStringEntryProto(key="location", value=name)],
    )


def build(
    encoder: nn.Layer, layer: int, with_hidden: bool, product: Product
) -> tuple[bytes, dict[str, np.ndarray]]:
    """(the serialised model, its constants by name).

    The constants stay outside: inside the model they would be copied several times, and
    may not exceed the 2 GB of a protobuf.

    Inputs: `embedded` float32 [B, L, hidden size], what the encoder's embeddings give; `mask` int32
    [B, L], 1 for a token. Outputs: Q, K, V of layer number `layer` (from 1) and, if asked for,
    what the layer puts out, each [B, L, hidden size].
    """
    from onnx import TensorProto, helper

    blocks = list(encoder.encoder.layers)[:layer]
    if any(block.normalize_before for block in blocks):
        raise UserError(
            "teacher.engine: encoders that normalise first need engine dynamic or static"
        )
    act = encoder.config.hidden_act
    if act not in ("relu", "gelu"):
        raise UserError(f"teacher.engine: activation {act!r} needs engine dynamic or static")
    graph, hidden = GraphWriter(product, act), "embedded"
    for block in blocks[:-1]:
        hidden = write_block(graph, block, hidden)
    # What relations are made of: a quarter of INT8's relation error for a hundredth of the time.
    outputs = project(graph, blocks[-1].self_attn, hidden, float_product)
    if with_hidden:
        outputs = [*outputs, write_block(graph, blocks[-1], hidden)]
    width = encoder.config.hidden_size
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "truncated_encoder",
            [
                helper.make_tensor_value_info("embedded", TensorProto.FLOAT, ["B", "L", width]),
                helper.make_tensor_value_info("mask", TensorProto.INT32, ["B", "L"]),
            ],
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", "L", width])
                for name in outputs
            ],
            [declared(name, value) for name, value in graph.constants.items()],
        ),
        opset_imports=[
            helper.make_opsetid("", OPSET),
            helper.make_opsetid(MICROSOFT, MICROSOFT_OPSET),
        ],
        ir_version=IR_VERSION,
    )
    return model.SerializeToString(), graph.constants
