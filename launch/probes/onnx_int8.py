"""A layer goes from Paddle to ONNX to INT8 and still gives its numbers."""

import subprocess
import sys
import tempfile
from pathlib import Path


def export(prefix: str) -> None:
    """Save a linear layer as ONNX. A process of its own: paddle2onnx may abort the whole one."""
    import paddle

    paddle.seed(0)
    layer = paddle.nn.Linear(64, 64)
    spec = [paddle.static.InputSpec([None, 64], "float32", "x")]
    paddle.onnx.export(layer, prefix, input_spec=spec, opset_version=13)


def main() -> None:
    import numpy as np
    import onnxruntime as ort
    from onnxruntime.quantization import quantize_dynamic

    from data_pipeline.base.machine import FULL_WEIGHT_PEAK, int8_weight_peak

    with tempfile.TemporaryDirectory() as folder:
        prefix = str(Path(folder) / "linear")
        subprocess.run([sys.executable, __file__, prefix], check=True, stdout=subprocess.DEVNULL)
        reduced = int8_weight_peak() < FULL_WEIGHT_PEAK
        quantize_dynamic(
            f"{prefix}.onnx", f"{prefix}.int8.onnx", per_channel=True, reduce_range=reduced
        )
        x = np.random.default_rng(0).standard_normal((8, 64), dtype=np.float32)
        providers = ["CPUExecutionProvider"]
        full, small = (
            ort.InferenceSession(path, providers=providers).run(None, {"x": x})[0]
            for path in (f"{prefix}.onnx", f"{prefix}.int8.onnx")
        )
    error = abs(full - small).max() / abs(full).max()
    assert error < 0.05, f"INT8 differs from FP32 by {error:.3f} of the largest value"
    print(f"Paddle to ONNX to INT8, largest error {100 * error:.1f}%")


if __name__ == "__main__":
    export(sys.argv[1]) if len(sys.argv) > 1 else main()
