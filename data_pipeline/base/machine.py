"""What this machine is: what a figure was measured on, and what its processor can do."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

import psutil

CPU_INFO = Path("/proc/cpuinfo")
CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),  # version 2
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),  # version 1
)
FULL_WEIGHT_PEAK = 127
SAFE_WEIGHT_PEAK = 64
# avx512_vnni, avx_vnni: Intel and AMD. asimddp, sve: Arm.
INT8_DOT_PRODUCTS = {"avx512_vnni", "avx_vnni", "asimddp", "sve"}


def machine(*libraries: str) -> dict[str, str | int | float]:
    """Processor, cores, memory, system, and versions of Python and of `libraries`."""
    return {
        "cpu": cpu_field("model name") or platform.processor() or platform.machine(),
        "cores": cores(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in libraries},
    }


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_vendor() -> str:
    """`AuthenticAMD`, `GenuineIntel`, ... as the kernel names it; empty where it does not."""
    return cpu_field("vendor_id")


def memory_bytes() -> int:
    """Memory that processes on this machine may use: the machine's, or a container's limit."""
    total = psutil.virtual_memory().total
    for path in CGROUP_LIMITS:
        try:
            limit = path.read_text(encoding="ascii").strip()
        except OSError:
            continue
        if limit.isdecimal():
            total = min(total, int(limit))
    return total


def cpu_field(*names: str) -> str:
    """The first field of /proc/cpuinfo with one of these names; empty where there is none."""
    try:
        text = CPU_INFO.read_text(encoding="utf-8")
    except OSError:
        return ""
    fields = (line.partition(":") for line in text.splitlines())
    return next((value.strip() for name, _, value in fields if name.strip() in names), "")


def has_int8_dot_product(flags: set[str] | None = None) -> bool:
    """Whether the processor sums products of 8-bit integers in 32 bits; `flags` default to its own.

    Without such an instruction ONNX Runtime sums pairs of uint8 x int8 products in 16 bits, which
    overflow: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
    """
    return bool(INT8_DOT_PRODUCTS & (cpu_flags() if flags is None else flags))


def int8_weight_peak() -> int:
    """Largest absolute INT8 weight whose products this processor sums exactly: 127, or 64.

    255 * 64 * 2 = 32,640 fits 16 bits; 255 * 127 * 2 = 64,770 does not.
    """
    return FULL_WEIGHT_PEAK if has_int8_dot_product() else SAFE_WEIGHT_PEAK


def cpu_flags() -> set[str]:
    """Instructions of the processor, as the kernel names them."""
    return set(cpu_field("flags", "Features").split())
