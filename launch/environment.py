"""Environment variables for the processes of a stage."""

import os
import platform
import shutil
import subprocess

from data_pipeline.base.machine import cores, cpu_flags, cpu_vendor

AVX512 = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}  # what MKL's kernels use
MKL_AVX2, MKL_AVX512 = "5", "7"


def best_for_cpu(processes: int) -> dict[str, str]:
    """Variables for `processes` busy processes side by side on this machine's cores.

    Paddle's CPU build carries an Intel MKL that picks its slowest kernels on other vendors' chips;
    MKL_DEBUG_CPU_TYPE asks for the AVX-512 ones (twice as fast as AVX2 on Zen 5) or the AVX2 ones.
    What the user has already set is left alone.
    """
    variables = {"OMP_NUM_THREADS": str(max(1, cores() // max(1, processes)))}
    if cpu_vendor() == "AuthenticAMD" and platform.machine() == "x86_64":
        variables["MKL_DEBUG_CPU_TYPE"] = MKL_AVX512 if cpu_flags() >= AVX512 else MKL_AVX2
    # Without this, paddle2onnx's constant folding may install packages while it runs.
    variables["POLYGRAPHY_AUTOINSTALL_DEPS"] = "0"
    return _not_set(variables)


def quiet() -> dict[str, str]:
    """Variables that lower the log level of Paddle and silence warnings for developers."""
    return _not_set({"GLOG_minloglevel": "2", "PYTHONWARNINGS": "ignore"})


def _not_set(variables: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in variables.items() if key not in os.environ}


def gpus() -> list[str]:
    """Name and memory of each GPU that the driver shows; empty where there is no driver."""
    if shutil.which("nvidia-smi") is None:
        return []
    result = subprocess.run(
        ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return result.stdout.strip().splitlines() if result.returncode == 0 else []


def visible_gpus() -> list[str]:
    """The GPUs that a run here may use, by the names that CUDA_VISIBLE_DEVICES takes; empty where
    there is no driver."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(number) for number in range(len(gpus()))]
    if not names or chosen is None:
        return names
    return [name for name in chosen.split(",") if name.strip() not in ("", "-1")]


def default_ranks() -> int:
    """One rank a visible GPU; without GPUs two, where there are two cores."""
    return len(visible_gpus()) or min(2, cores())
