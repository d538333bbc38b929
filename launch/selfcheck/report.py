"""The results as a table and as JSON."""

import datetime
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from data_pipeline.base.errors import UserError
from data_pipeline.base.machine import machine
from launch import environment
from launch.selfcheck.checks import CHECKS, Result, missing, perform
from launch.selfcheck.lab import Lab

PACKAGES = ("ppminilm-fleet", "paddlepaddle", "paddlepaddle-gpu", "paddlenlp", "onnxruntime")


def self_check(
    folder: Path, device: str, report: Callable[[str], None] = print, names: tuple[str, ...] = ()
) -> dict:
    """Make all checks (or those of these names), telling each as it ends; plain values for JSON.

    Raises:
        UserError: there is no GPU, or shards and a teacher could not be made.
    """
    gpus, visible = environment.gpus(), environment.visible_gpus()
    if device == "gpu" and not visible:
        raise UserError("doctor --gpu: no GPU is visible here; --device cpu runs the same "
                        "checks on the CPU where that is possible")  # fmt: skip
    lab = Lab(folder, device, len(visible if device == "gpu" else gpus))
    chosen = [check for check in CHECKS if not names or check.name in names]
    results: list[Result] = []
    if any(not missing(check, lab) for check in chosen):
        lab.prepare()
    for check in chosen:
        results.append(perform(check, lab))
        report(as_line(results[-1]))
    return {
        "device": device,
        "gpus": gpus,
        "machine": machine(),
        "versions": {name: _version(name) for name in PACKAGES},
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "checks": [asdict(result) for result in results],
        "ok": all(result.ok is not False for result in results),
    }


def as_line(result: Result) -> str:
    """One row of the table."""
    mark = {True: "ok  ", False: "FAIL", None: "skip"}[result.ok]
    return f"{mark}  {result.name:<24} {result.seconds:5.0f} s  {result.message}"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
