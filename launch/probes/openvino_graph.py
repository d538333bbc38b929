"""A product in OpenVINO gives its numbers, in float32 and in what else the processor has."""

import numpy as np

from data_pipeline.base.openvino_cpu import BFLOAT16, FLOAT32, has_bfloat16, runtime


def main() -> None:
    openvino = runtime()
    from openvino import opset13

    random = np.random.default_rng(0)
    weight = random.standard_normal((64, 64), dtype=np.float32)
    x = random.standard_normal((8, 64), dtype=np.float32)
    given = opset13.parameter([-1, 64], np.float32)
    model = openvino.Model([opset13.matmul(given, weight, False, False)], [given], "product")
    kinds = {FLOAT32: 1e-5} | ({BFLOAT16: 0.02} if has_bfloat16() else {})
    for kind, tolerance in kinds.items():
        compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": kind})
        error = abs(compiled([x])[0] - x @ weight).max() / abs(x @ weight).max()
        assert error < tolerance, f"{kind}: differs by {error:.3g} of the largest value"
    print(f"{' and '.join(kinds)} agree with numpy")


if __name__ == "__main__":
    main()
