"""INT8 ONNX files: weights in int8, activations in uint8, products in integers.

Quantised are the products with the encoder's weight matrices and the word embeddings. Attention
between activations, norms, the pooler and the last linear layer stay in float32: together a few
percent of the work.
"""

import logging
from pathlib import Path

import numpy as np

from data_pipeline.base.machine import FULL_WEIGHT_PEAK
from finetune.deploy.onnx_graph import MICROSOFT, Graph
from finetune.quantise.calibration import activation_grid

QUANTISED = ("MatMul",)
EMBEDDING_ROWS = 1000  # smaller tables (positions, segments) are left alone


def products(graph: Graph) -> list:
    """The MatMul nodes whose second operand is a weight."""
    return [
        node
        for node in graph.model.graph.node
        if node.op_type in QUANTISED and node.input[1] in graph.constants
    ]


def quantise_dynamic(
    source: Path, output: Path, *, per_channel: bool = True, peak: int = FULL_WEIGHT_PEAK
) -> None:
    """Weights beforehand, activation ranges at run time, by ONNX Runtime's quantiser.

    peak: largest absolute INT8 weight, 127 or 64 (see `data_pipeline.base.machine`).
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)  # it advises a pre-processing already done
    try:
        quantize_dynamic(
            str(source),
            str(output),
            op_types_to_quantize=[*QUANTISED, "Gather"],
            per_channel=per_channel,
            weight_type=QuantType.QInt8,
            reduce_range=peak < FULL_WEIGHT_PEAK,
            nodes_to_quantize=_names(Graph(source)),
            extra_options={"MatMulConstBOnly": True},
        )
    finally:
        logging.getLogger().setLevel(level)


def quantise_static(
    source: Path,
    output: Path,
    ranges: dict[str, tuple[float, float]],
    *,
    per_channel: bool = True,
    peak: int = FULL_WEIGHT_PEAK,
) -> None:
    """Integer products, with fixed `ranges` (by name of the product's input).

    A product and the bias after it become ONNX Runtime's integer kernel with a bias: adding it in a
    pass of its own takes 2 to 6% of the time. One QuantizeLinear serves all that read its input.
    """
    graph = Graph(source)
    nodes: dict[str, list] = {}  # by the first output of the node that they go before
    done: set[str] = set()
    for product in products(graph):
        name = product.input[0]
        _make_integer(graph, product, 1 if per_channel else None, peak)
        if name not in done:
            done.add(name)
            nodes[product.output[0]] = [_quantised(graph, name, ranges[name])]
    for node in _embeddings(graph):
        table = node.input[0]
        after = _dequantised_table(graph, table)
        after.input[0], after.output[0] = f"{node.output[0]}.int8", node.output[0]
        node.input[0], node.output[0] = f"{table}.int8", f"{node.output[0]}.int8"
        nodes.setdefault(f"after {node.output[0]}", []).append(after)
    _insert(graph, nodes)
    graph.import_domain(MICROSOFT)
    graph.prune()
    graph.save(output)


def weight_grid(
    weight: np.ndarray, axis: int | None, peak: int = FULL_WEIGHT_PEAK
) -> tuple[np.ndarray, np.ndarray]:
    """float32 scale ([columns] or []) and int8 values, symmetric in [-peak, peak]."""
    largest = np.abs(weight).max(axis=0 if axis == 1 else None)
    scale = np.maximum(largest / peak, 1e-10).astype(np.float32)
    return scale, np.clip(np.round(weight / scale), -peak, peak).astype(np.int8)


def _quantised(graph: Graph, name: str, value_range: tuple[float, float]):
    """The node that makes a product's input uint8, `name`.uint8."""
    from onnx import helper

    scale, zero = activation_grid(*value_range)
    parameters = [_add(graph, f"{name}.scale", scale), _add(graph, f"{name}.zero", zero)]
    return helper.make_node("QuantizeLinear", [name, *parameters], [f"{name}.uint8"])


def _make_integer(graph: Graph, product, axis: int | None, peak: int) -> None:
    """Turn a MatMul, with the bias that is added to it if there is one, into the integer kernel.

    It reads what `_quantised` gives. A scale for every column of the weight where axis is 1.
    """
    name, weight = product.input
    scale, zero = _add_weight(graph, weight, axis, peak)
    inputs = [f"{name}.uint8", f"{weight}.int8", f"{name}.scale", scale, f"{name}.zero", zero]
    bias = _bias_after(graph, product)
    if bias is not None:
        addition, values = bias
        inputs.append(values)
        graph.model.graph.node.remove(addition)
        product.output[0] = addition.output[0]
    del product.input[:]
    product.input.extend(inputs)
    product.op_type, product.domain = "MatMulIntegerToFloat", MICROSOFT


def _bias_after(graph: Graph, product) -> tuple | None:
    """(the Add, name of its constant vector) if nothing else reads the product."""
    readers = graph.consumers.get(product.output[0], [])
    if len(readers) != 1 or readers[0].op_type != "Add":
        return None
    vectors = [
        name
        for name in readers[0].input
        if name in graph.constants and len(graph.constants[name].dims) == 1
    ]
    return (readers[0], vectors[0]) if vectors else None


def _dequantised_table(graph: Graph, name: str):
    """Add an embedding table's int8 form; the node that turns its rows back."""
    from onnx import helper

    scale, zero = _add_weight(graph, name, None, FULL_WEIGHT_PEAK)
    return helper.make_node("DequantizeLinear", [f"{name}.int8", scale, zero], [f"{name}.restored"])


def _add_weight(graph: Graph, name: str, axis: int | None, peak: int) -> tuple[str, str]:
    """Add a weight's int8 form, `name`.int8; the names of its scale and its zero."""
    scale, values = weight_grid(graph.value(name), axis, peak)
    _add(graph, f"{name}.int8", values)
    zero = np.zeros_like(scale, np.int8)
    return _add(graph, f"{name}.scale", scale), _add(graph, f"{name}.zero", zero)


def _add(graph: Graph, name: str, value: np.ndarray | np.generic) -> str:
    from onnx import numpy_helper

    if name not in graph.constants:
        item = numpy_helper.from_array(np.asarray(value), name)
        graph.model.graph.initializer.append(item)
        graph.constants[name] = item
    return name


def _insert(graph: Graph, nodes: dict[str, list]) -> None:
    ordered = []
    for node in graph.model.graph.node:
        ordered += nodes.get(node.output[0], [])
        ordered.append(node)
        ordered += nodes.get(f"after {node.output[0]}", [])
    del graph.model.graph.node[:]
    graph.model.graph.node.extend(ordered)


def _embeddings(graph: Graph) -> list:
    return [
        node
        for node in graph.model.graph.node
        if node.op_type == "Gather"
        and node.input[0] in graph.constants
        and graph.constants[node.input[0]].dims[0] >= EMBEDDING_ROWS
    ]


def _names(graph: Graph) -> list[str]:
    """Give the nodes to be quantised names, which ONNX Runtime's quantiser selects by."""
    return [node.name for node in (*products(graph), *_embeddings(graph))]
