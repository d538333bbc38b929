"""OpenVINO on a CPU, with the same settings wherever this project opens a model."""

from pathlib import Path
from typing import Any

BFLOAT16, FLOAT32 = "bf16", "f32"


def compile_model(path: Path, threads: int, *, bfloat16: bool = False, **settings: Any):
    """A model of OpenVINO's, ready to be called with {name of an input: array}.

    bfloat16: compute in it what the file has in float32; `settings` are properties of OpenVINO's
    CPU plug-in. OpenVINO's own errors pass.
    """
    import openvino

    return openvino.Core().compile_model(
        str(path),
        "CPU",
        {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            # Left to itself it takes bfloat16 wherever the CPU has it.
            "INFERENCE_PRECISION_HINT": BFLOAT16 if bfloat16 else FLOAT32,
            # Two ranks, or two services, would be put on the same cores.
            "ENABLE_CPU_PINNING": False,
            **settings,
        },
    )


def has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 numbers."""
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
