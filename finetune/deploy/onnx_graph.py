"""Rewriting of exported ONNX graphs: fewer, larger operators for ONNX Runtime."""

from pathlib import Path

import numpy as np

from data_pipeline.base.errors import UserError
from finetune.deploy.onnx_session import CPU, session_options

MICROSOFT = "com.microsoft"  # the operators that only ONNX Runtime has


class Graph:
    """An ONNX model with its producers and consumers looked up by tensor name."""

    def __init__(self, path: Path):
        import onnx

        self.model = onnx.load(str(path))
        self._index()

    def _index(self) -> None:
        graph = self.model.graph
        self.producer = {name: node for node in graph.node for name in node.output}
        self.consumers: dict[str, list] = {}
        for node in graph.node:
            for name in node.input:
                self.consumers.setdefault(name, []).append(node)
        self.constants = {item.name: item for item in graph.initializer}

    def value(self, name: str) -> np.ndarray:
        """A constant tensor."""
        from onnx import numpy_helper

        return numpy_helper.to_array(self.constants[name])

    def back(self, name: str, stop: str):
        """The nearest node of type `stop` that `name` comes from, following first inputs."""
        node = self.producer[name]
        while node.op_type != stop:
            node = self.producer[node.input[0]]
        return node

    def forward(self, name: str, stop: str):
        """The nearest node of type `stop` that reads `name`, without branches between."""
        (node,) = self.consumers[name]
        while node.op_type != stop:
            (node,) = self.consumers[node.output[0]]
        return node

    def sources(self, name: str) -> list:
        """All nodes that `name` is computed from."""
        nodes, names = [], [name]
        while names:
            node = self.producer.get(names.pop())
            if node is not None and node not in nodes:
                nodes.append(node)
                names += node.input
        return nodes

    def prune(self) -> None:
        """Drop nodes and constants that no output needs."""
        graph = self.model.graph
        needed = {item.name for item in graph.output}
        kept = []
        for node in reversed(graph.node):
            if needed.intersection(node.output):
                kept.append(node)
                needed.update(node.input)
        kept.reverse()
        del graph.node[:]
        graph.node.extend(kept)
        constants = [item for item in graph.initializer if item.name in needed]
        del graph.initializer[:]
        graph.initializer.extend(constants)
        self._index()

    def import_domain(self, domain: str) -> None:
        """Let nodes use the operators of a domain, version 1 if none is imported."""
        from onnx import helper

        if not any(item.domain == domain for item in self.model.opset_import):
            self.model.opset_import.append(helper.make_opsetid(domain, 1))

    def save(self, path: Path) -> None:
        """Write the model."""
        import onnx

        onnx.save(self.model, str(path))


def fuse(source: Path, output: Path) -> None:
    """The graph in the operators in which ONNX Runtime is fastest; the same logits."""
    simplified(source, output)
    graph = Graph(output)
    fuse_attention(graph)
    graph.save(output)


def simplified(source: Path, output: Path) -> None:
    """ONNX Runtime's basic rewriting: constants folded, identities removed, standard operators."""
    import onnxruntime

    options = session_options()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(output)
    onnxruntime.InferenceSession(str(source), options, providers=[CPU])


def fuse_attention(graph: Graph) -> int:
    """Make each softmax attention one MultiHeadAttention operator; returns how many there were.

    It reads the projections as [B, L, heads x d], so the transposes round it go too.
    """
    from onnx import helper

    softmaxes = [node for node in graph.model.graph.node if node.op_type == "Softmax"]
    mask = None
    for number, softmax in enumerate(softmaxes):
        scores = graph.producer[graph.back(softmax.input[0], "MatMul").output[0]]
        context = graph.forward(softmax.output[0], "MatMul")
        query, key = (graph.back(name, "Reshape") for name in scores.input)
        value = graph.back(context.input[1], "Reshape")
        output = graph.forward(context.output[0], "Reshape")
        heads = int(graph.value(query.input[1])[2])
        mask = mask or _padding_mask(graph, softmax.input[0])
        node = helper.make_node(
            "MultiHeadAttention",
            [query.input[0], key.input[0], value.input[0], "", mask],
            [output.output[0]],
            name=f"attention.{number}",
            domain=MICROSOFT,
            num_heads=heads,
        )
        nodes = graph.model.graph.node
        at = next(i for i, other in enumerate(nodes) if other.output[0] == output.output[0])
        nodes.remove(nodes[at])
        nodes.insert(at, node)
    if softmaxes:
        graph.import_domain(MICROSOFT)
    graph.prune()
    return len(softmaxes)


def _padding_mask(graph: Graph, scores: str) -> str:
    """Name of an int32 [B, L] tensor, 1 for tokens and 0 for padding, added to the graph."""
    from onnx import TensorProto, helper

    equals = [node for node in graph.sources(scores) if node.op_type == "Equal"]
    if len(equals) != 1:
        raise UserError(f"the graph compares ids with padding {len(equals)} times, not once")
    nodes = graph.model.graph.node
    at = 1 + next(i for i, node in enumerate(nodes) if node.output[0] == equals[0].output[0])
    nodes.insert(at, helper.make_node("Not", [equals[0].output[0]], ["is_token"]))
    nodes.insert(
        at + 1, helper.make_node("Cast", ["is_token"], ["token_mask"], to=TensorProto.INT32)
    )
    return "token_mask"
