"""An encoder as onnx/model.onnx: from ids to the last layer's output, for feature extraction.

The inputs and the output have the names that Hugging Face's optimum and sentence-transformers
(`backend="onnx"`) look for. The layers are ONNX Runtime's fused operators, as for a teacher.
"""

from pathlib import Path

import numpy as np
from paddle import nn

from data_pipeline.base.files import write_atomically
from pretrain.encoders.onnx_encoder import (
    IR_VERSION,
    MICROSOFT,
    MICROSOFT_OPSET,
    OPSET,
    GraphWriter,
    float_product,
    write_block,
)

FILE = "onnx/model.onnx"
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OUTPUT = "last_hidden_state"


def write_onnx_features(encoder: nn.Layer, words: np.ndarray, path: Path) -> None:
    """Write the graph of a BERT or PP-MiniLM encoder with its weights in it.

    words: the table of word embeddings, [vocabulary, hidden size]. Inputs are int64 [B, L]; the
    output is float32 [B, L, hidden size], undefined where `attention_mask` is 0.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph = GraphWriter(float_product, encoder.config.hidden_act)
    # `write_block` reads this name; ONNX Runtime's attention takes the mask as int32.
    graph.nodes.append(helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.INT32))
    hidden = write_embeddings(graph, encoder.embeddings, words)
    for block in encoder.encoder.layers:
        hidden = write_block(graph, block, hidden)
    graph.nodes.append(helper.make_node("Identity", [hidden], [OUTPUT]))
    width = encoder.config.hidden_size
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "encoder",
            [helper.make_tensor_value_info(name, TensorProto.INT64, ["B", "L"]) for name in INPUTS],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["B", "L", width])],
            [numpy_helper.from_array(value, name) for name, value in graph.constants.items()],
        ),
        opset_imports=[
            helper.make_opsetid("", OPSET),
            helper.make_opsetid(MICROSOFT, MICROSOFT_OPSET),
        ],
        ir_version=IR_VERSION,
    )
    write_atomically(path, model.SerializeToString())


def write_embeddings(graph: GraphWriter, embeddings: nn.Layer, words: np.ndarray) -> str:
    """Word + position + type, normalised: [B, L, hidden size]."""
    zero, one = (graph.constant(np.array([number], np.int64)) for number in (0, 1))
    length = graph.node("Gather", [graph.node("Shape", ["input_ids"]), one])
    table = graph.constant(embeddings.position_embeddings.weight.numpy())
    positions = graph.node("Slice", [table, zero, length, zero])

    def looked_up(table: np.ndarray, ids: str) -> str:
        return graph.node("Gather", [graph.constant(table), ids])

    total = graph.node("Add", [looked_up(words, "input_ids"), positions])
    types = looked_up(embeddings.token_type_embeddings.weight.numpy(), "token_type_ids")
    norm = embeddings.layer_norm
    return graph.node(
        "LayerNormalization",
        [
            graph.node("Add", [total, types]),
            graph.constant(norm.weight.numpy()),
            graph.constant(norm.bias.numpy()),
        ],
        axis=-1,
        epsilon=float(norm._epsilon),  # Paddle has no public name for it
    )
