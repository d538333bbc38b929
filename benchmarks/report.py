"""The file that every benchmark writes."""

import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from data_pipeline.base.files import write_json
from data_pipeline.base.machine import machine


def write(
    path: Path | None, figures: dict[str, float], settings: dict, libraries: tuple[str, ...], **raw
) -> None:
    """`figures` by name, what they were measured on and with, and the raw repeats; to no path,
    nothing. Settings that JSON does not have are written as text, absolute paths by their last
    part: where they are on one machine tells others nothing."""
    if path is None:
        return
    report = {
        "figures": figures,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(Path(__file__).parent),
        "machine": machine(*libraries),
        "settings": _plain(settings),
    }
    write_json(path, {**report, **raw})


def commit(folder: Path) -> str:
    """The commit of the repository in which `folder` lies, and whether its files differ from it."""
    try:
        number = _git(folder, "rev-parse", "HEAD")
        changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{number} with changes" if changes else number


def _git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (str, Path)):
        return Path(value).name if Path(value).is_absolute() else str(value)
    return value if isinstance(value, (int, float, bool, list, type(None))) else str(value)
