"""INT8 ONNX files by ONNX Runtime's quantiser."""

import logging
from pathlib import Path


def quantise_dynamic(source: Path, output: Path, *, per_channel: bool = True) -> None:
    """Weights of matrix products and embeddings to int8; activations at run time."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.getLogger().setLevel(logging.ERROR)
    quantize_dynamic(
        str(source),
        str(output),
        op_types_to_quantize=["MatMul", "Gather"],
        per_channel=per_channel,
        weight_type=QuantType.QInt8,
        extra_options={"MatMulConstBOnly": True},
    )
