"""OpenVINO on a CPU, with the same settings wherever this project opens a model."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

TELEMETRY = "openvino_telemetry"
BFLOAT16, FLOAT32 = "bf16", "f32"


def runtime() -> ModuleType:
    """The module `openvino`, without what it does at every import: report it to its makers over the
    network, by a package that is hidden here."""
    hidden = "openvino" not in sys.modules and TELEMETRY not in sys.modules
    if hidden:
        sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # Python then finds none
    try:
        import openvino
    finally:
        if hidden:
            del sys.modules[TELEMETRY]
    return openvino


def compile_model(path: Path, threads: int, *, bfloat16: bool = False, **settings: Any):
    """A model of OpenVINO's, ready to be called with {name of an input: array}.

    bfloat16: compute in it what the file has in float32; `settings` are properties of OpenVINO's
    CPU plug-in. OpenVINO's own errors pass.
    """
    return (
        runtime()
        .Core()
        .compile_model(
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
    )


def has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 numbers."""
    return "BF16" in runtime().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
