"""What the inputs of the quantised products look like on calibration batches."""

from pathlib import Path

import numpy as np

from finetune.deploy.onnx_session import open_session
from finetune.quantise.calibration import BINS, Observation


def observe(
    graph_path: Path, tensors: list[str], batches: list[dict[str, np.ndarray]]
) -> dict[str, Observation]:
    """Run the FP32 model over `batches` twice: for the ranges, then for histograms over them."""
    session = open_with_outputs(graph_path, tensors)
    observed: dict[str, Observation] = {}
    for batch in batches:
        for name, value in zip(tensors, run(session, tensors, batch), strict=True):
            low, high = float(value.min()), float(value.max())
            tensor = observed.setdefault(name, Observation(low, high, [], np.zeros(BINS, np.int64)))
            tensor.lowest, tensor.highest = min(tensor.lowest, low), max(tensor.highest, high)
            tensor.batch_peaks.append(max(high, -low))
    for batch in batches:
        for name, value in zip(tensors, run(session, tensors, batch), strict=True):
            tensor = observed[name]
            tensor.counts += np.histogram(value, BINS, (tensor.lowest, tensor.highest))[0]
    return observed


def open_with_outputs(graph_path: Path, tensors: list[str]):
    """An ONNX Runtime session whose outputs are the named tensors of a model."""
    import onnx

    model = onnx.load(str(graph_path))
    del model.graph.output[:]
    model.graph.output.extend([onnx.ValueInfoProto(name=name) for name in tensors])
    return open_session(model.SerializeToString())


def run(session, tensors: list[str], batch: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The named tensors for one batch of `input_ids` and `token_type_ids`."""
    feed = {name: batch[name] for name in ("input_ids", "token_type_ids")}
    return session.run(tensors, feed)
