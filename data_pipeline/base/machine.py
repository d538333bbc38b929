"""What this machine is: what a figure was measured on, and what its processor can do."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

import psutil

FULL_WEIGHT_PEAK = 127
SAFE_WEIGHT_PEAK = 64
# avx512_vnni, avx_vnni: Intel and AMD. asimddp, sve: Arm.
INT8_DOT_PRODUCTS = {"avx512_vnni", "avx_vnni", "asimddp", "sve"}


def machine(*libraries: str) -> dict[str, str | int | float]:
    """Processor, cores, memory, system, and versions of Python and of `libraries`."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": (models or [platform.processor() or platform.machine()])[0],
        "cores": len(psutil.Process().cpu_affinity()) if info.exists() else os.cpu_count() or 1,
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in libraries},
    }


def has_int8_dot_product(flags: set[str] | None = None) -> bool:
    """Whether the processor sums products of 8-bit integers in 32 bits; `flags` default to its own.

    Without such an instruction ONNX Runtime sums pairs of uint8 x int8 products in 16 bits, which
    overflow: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
    """
    return bool(INT8_DOT_PRODUCTS & (_cpu_flags() if flags is None else flags))


def int8_weight_peak() -> int:
    """Largest absolute INT8 weight whose products this processor sums exactly: 127, or 64.

    255 * 64 * 2 = 32,640 fits 16 bits; 255 * 127 * 2 = 64,770 does not.
    """
    return FULL_WEIGHT_PEAK if has_int8_dot_product() else SAFE_WEIGHT_PEAK


def _cpu_flags() -> set[str]:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    named = (line.partition(":") for line in lines)
    return {
        flag
        for key, _, value in named
        if key.strip() in ("flags", "Features")
        for flag in value.split()
    }
