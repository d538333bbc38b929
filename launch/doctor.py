"""`python -m launch doctor`: what is installed here, and whether the parts work together."""

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from data_pipeline.base.machine import cores, cpu_vendor
from launch.environment import best_for_cpu, default_ranks, gpus, quiet

PROBES = Path(__file__).parent / "probes"
PROJECT = "ppminilm-fleet"
PROBE_SECONDS = 180
DISK_NEEDED_GB = 5


@dataclass
class Check:
    """One part that was tried; `message` says what was measured or what went wrong."""

    name: str
    ok: bool
    message: str


def versions() -> dict[str, str]:
    """Installed version of every direct requirement of this project; `missing` where none, or the
    extra that would install it."""
    installed = {}
    for requirement in importlib.metadata.requires(PROJECT) or []:
        name = re.split(r"[^A-Za-z0-9_.-]", requirement, maxsplit=1)[0]
        if name == PROJECT or name in installed:  # an extra that contains others
            continue
        extra = re.search(r"extra == ['\"]([\w-]+)", requirement)
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            installed[name] = f"not installed (extra {extra[1]})" if extra else "missing"
    return installed


def machine() -> dict[str, str]:
    """Python, system, processor, memory and GPUs, one line each."""
    memory = psutil.virtual_memory()
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpu": f"{cpu_vendor() or platform.processor()}, {cores()} cores usable",
        "memory": f"{memory.total / 2**30:.1f} GB, {memory.available / 2**30:.1f} GB free",
        "gpus": ", ".join(gpus()) or "none",
        "environment": " ".join(f"{k}={v}" for k, v in best_for_cpu(1).items()) or "as set by you",
    }


def checks(folder: Path) -> list[Check]:
    """Try each part, quickest first. Each check is a separate process with a time limit."""
    return [
        disk(folder),
        probe("text and shards", "shards.py"),
        probe("VisualDL", "curves.py"),
        probe("Paddle", "paddle_cpu.py"),
        probe("ONNX Runtime INT8", "onnx_int8.py"),
        probe("OpenVINO", "openvino_graph.py"),
        ranks(),
    ]


def disk(folder: Path) -> Check:
    """Free space where runs are written."""
    free = shutil.disk_usage(folder).free / 1e9
    message = f"{free:.0f} GB free in {folder.resolve()}"
    if free < DISK_NEEDED_GB:
        return Check("disk", False, f"{message}; {DISK_NEEDED_GB} GB are needed for the demo")
    return Check("disk", True, message)


def probe(name: str, script: str) -> Check:
    """Run one probe script."""
    return _try(name, [sys.executable, str(PROBES / script)], processes=1)


def ranks() -> Check:
    """Start ranks the way training does: two, or one where there is a single GPU."""
    count = min(2, default_ranks())
    with tempfile.TemporaryDirectory() as logs:
        command = [
            sys.executable, "-m", "paddle.distributed.launch", "--log_level", "ERROR",
            "--nproc_per_node", str(count), "--log_dir", logs, str(PROBES / "ranks.py"),
        ]  # fmt: skip
        return _try("Fleet ranks", command, processes=count)


def _try(name: str, command: list[str], processes: int) -> Check:
    environment = {**os.environ, **best_for_cpu(processes), **quiet()}
    try:
        result = subprocess.run(
            command, env=environment, capture_output=True, text=True,
            timeout=PROBE_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Check(name, False, f"no answer in {PROBE_SECONDS} s")
    lines = [line for line in result.stdout.splitlines() if line.strip()]
    if result.returncode == 0:
        printed = [line for line in lines if not re.match(r"LAUNCH|\[|INFO|WARN", line)]
        return Check(name, True, (printed or lines or ["ran"])[-1])
    errors = [line for line in result.stderr.splitlines() if line.strip()] or lines
    return Check(name, False, f"exit code {result.returncode}: {' | '.join(errors[-3:])[:400]}")


def report(folder: Path) -> dict:
    """Everything as plain values, for `--json`."""
    tried = checks(folder)
    return {
        "machine": machine(),
        "versions": versions(),
        "checks": [asdict(check) for check in tried],
        "ok": all(check.ok for check in tried),
    }


def as_text(values: dict) -> str:
    """The report as lines of text."""
    lines = [f"{key:<12} {value}" for key, value in values["machine"].items()]
    lines += ["", *(f"{name:<18} {version}" for name, version in values["versions"].items()), ""]
    for check in values["checks"]:
        lines.append(f"{'ok  ' if check['ok'] else 'FAIL'}  {check['name']:<20} {check['message']}")
    return "\n".join(lines)
