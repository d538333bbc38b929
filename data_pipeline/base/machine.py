"""What a figure was measured on."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

import psutil


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
