"""The file that every benchmark writes."""

from pathlib import Path
from typing import Any

from data_pipeline.base.files import write_json
from data_pipeline.base.machine import machine


def write(
    path: Path | None, figures: dict[str, float], settings: dict, libraries: tuple[str, ...], **raw
) -> None:
    """`figures` by name, what they were measured on and with, and the raw repeats; to no path,
    nothing. Settings that JSON does not have are written as text."""
    if path is None:
        return
    report = {"figures": figures, "machine": machine(*libraries), "settings": _plain(settings)}
    write_json(path, {**report, **raw})


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value if isinstance(value, (str, int, float, bool, list, type(None))) else str(value)
