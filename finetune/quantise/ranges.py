"""Calibration: in which range the inputs of the quantised products lie.

Every method finds a threshold T on |x|; the range is what was seen, cut to [-T, T]:

- abs_max: the largest value seen;
- avg: the mean over batches of a batch's largest value;
- mse: the T whose 8-bit grid gives the smallest squared error;
- hist: the T below which a percentile of the values lies;
- KL: the T whose 8-bit histogram is nearest to the full one (Migacz, "8-bit inference with
  TensorRT", GTC 2017).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

BINS = 2048
LEVELS = 128  # of |x| in 8 bits


@dataclass
class Seen:
    """What calibration batches showed of one tensor; `counts` is a histogram of |x| over BINS."""

    lowest: float
    highest: float
    batch_peaks: list[float]
    counts: np.ndarray

    @property
    def peak(self) -> float:
        """Largest |x|."""
        return max(self.highest, -self.lowest, 1e-8)


def observe(graph_path: Path, tensors: list[str], batches: list[dict]) -> dict[str, Seen]:
    """Run the FP32 model over `batches` twice: for the peaks, then for histograms up to them."""
    session = exposing(graph_path, tensors)
    seen: dict[str, Seen] = {}
    for batch in batches:
        for name, value in zip(tensors, run(session, tensors, batch), strict=True):
            low, high = float(value.min()), float(value.max())
            one = seen.setdefault(name, Seen(low, high, [], np.zeros(BINS, np.int64)))
            one.lowest, one.highest = min(one.lowest, low), max(one.highest, high)
            one.batch_peaks.append(max(high, -low))
    for batch in batches:
        for name, value in zip(tensors, run(session, tensors, batch), strict=True):
            one = seen[name]
            one.counts += np.histogram(np.abs(value), BINS, (0.0, one.peak))[0]
    return seen


def exposing(graph_path: Path, tensors: list[str]):
    """An ONNX Runtime session whose outputs are the named tensors of a model."""
    import onnx
    import onnxruntime

    model = onnx.load(str(graph_path))
    del model.graph.output[:]
    model.graph.output.extend([onnx.ValueInfoProto(name=name) for name in tensors])
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def run(session, tensors: list[str], batch: dict) -> list[np.ndarray]:
    """The named tensors for one batch of `input_ids` and `token_type_ids`."""
    feed = {name: batch[name] for name in ("input_ids", "token_type_ids")}
    return session.run(tensors, feed)


def thresholds(seen: Seen, method: str, percentile: float = 99.99) -> float:
    """T of one tensor by one of METHODS."""
    return METHODS[method](seen, percentile)


def range_of(seen: Seen, method: str, percentile: float = 99.99) -> tuple[float, float]:
    """(lowest, highest) that the 8-bit grid shall cover."""
    limit = thresholds(seen, method, percentile)
    return max(seen.lowest, -limit), min(seen.highest, limit)


def _abs_max(seen: Seen, _: float) -> float:
    return seen.peak


def _avg(seen: Seen, _: float) -> float:
    return float(np.mean(seen.batch_peaks))


def _hist(seen: Seen, percentile: float) -> float:
    share = np.cumsum(seen.counts) / seen.counts.sum()
    return float((np.searchsorted(share, percentile / 100) + 1) / BINS * seen.peak)


def _mse(seen: Seen, _: float) -> float:
    centres = (np.arange(BINS) + 0.5) / BINS * seen.peak
    limits = np.linspace(0.1, 1.0, 91) * seen.peak
    steps = limits / (LEVELS - 1)
    errors = [
        (
            seen.counts * (centres - np.minimum(np.round(centres / step), LEVELS - 1) * step) ** 2
        ).sum()
        for step in steps
    ]
    return float(limits[int(np.argmin(errors))])


def _kl(seen: Seen, _: float) -> float:
    counts = seen.counts.astype(float)
    counts[0] = counts[1]  # exact zeros (padding, ReLU) are no part of the shape
    candidates = range(LEVELS, BINS + 1, 16)
    divergences = [_divergence(counts, size) for size in candidates]
    return float(candidates[int(np.argmin(divergences))] / BINS * seen.peak)


def _divergence(counts: np.ndarray, size: int) -> float:
    """KL(clipped || quantised) when the first `size` bins are put on LEVELS levels."""
    reference = counts[:size].copy()
    occupied = reference > 0
    level = np.arange(size) * LEVELS // size
    sums = np.bincount(level, counts[:size], LEVELS)
    used = np.bincount(level, occupied, LEVELS)
    quantised = np.where(occupied, (sums / np.maximum(used, 1))[level], 0.0)
    reference[-1] += counts[size:].sum()  # what is cut off lands on the last value
    occupied = (reference > 0) & (quantised > 0)
    p = reference / reference.sum()
    q = quantised / max(quantised.sum(), 1e-12)
    missing = p[(reference > 0) & (quantised <= 0)].sum()
    return float((p[occupied] * np.log(p[occupied] / q[occupied])).sum() + 10 * missing)


METHODS = {"abs_max": _abs_max, "avg": _avg, "mse": _mse, "hist": _hist, "KL": _kl}
