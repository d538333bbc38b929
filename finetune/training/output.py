"""An output directory is written once, whole, and again only if its settings or inputs change."""

import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from data_pipeline.base.errors import UserError
from data_pipeline.base.files import sha256, write_json
from data_pipeline.base.recipes import Recipe, differences
from finetune.training import ranks

RECORD = "stage.json"  # written last: a directory without it is not finished


def make_once(
    stage: str,
    directory: Path,
    settings: Recipe,
    inputs: list[Path],
    write: Callable[[Path], None],
) -> Path:
    """Let `write` fill a temporary directory and put it in place as `directory`; returns that.

    Nothing is done when `directory` was finished by the same settings from the same inputs, which
    are compared by their contents. A directory that no stage has written is refused (UserError).
    """
    directory = Path(directory)
    record = {
        "stage": stage,
        "settings": settings.model_dump(mode="json"),
        "inputs": {str(path): fingerprint(path) for path in inputs},
    }
    previous = _previous_record(directory)
    if previous is not None:
        changed = differences(_comparable(previous), _comparable(record))
        if not changed:
            _log(f"{stage}: {directory} is finished already")
            return directory
        _log(f"{stage}: writing {directory} again because of " + "; ".join(changed)[:300])
    rank = ranks.current().rank
    temporary = directory.with_name(f".{directory.name}.making{rank or ''}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    began = time.monotonic()
    write(temporary)
    if rank:  # the first rank's directory is the product
        shutil.rmtree(temporary)
        return directory
    write_json(temporary / RECORD, record | {"seconds": round(time.monotonic() - began, 1)})
    if directory.exists():
        shutil.rmtree(directory)
    temporary.replace(directory)
    _log(f"{stage}: {directory} written in {time.monotonic() - began:.0f} s")
    return directory


def fingerprint(path: Path) -> str:
    """Hash of a file, or of the weights in a directory."""
    path = Path(path)
    if path.is_file():
        return sha256(path)
    for name in ("model.safetensors", "model.onnx", "model.pdiparams"):
        if (path / name).is_file():
            return sha256(path / name)
    raise UserError(f"{path}: no model there (model.safetensors, model.onnx or model.pdiparams)")


def _previous_record(directory: Path) -> dict | None:
    if not directory.exists():
        return None
    try:
        return json.loads((directory / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        if any(directory.iterdir()):
            raise UserError(
                f"{directory}: exists and was not made by this command; "
                "name another output_dir or remove it"
            ) from None
        return None


def _comparable(record: dict) -> dict:
    return {"settings": record.get("settings"), "inputs": record.get("inputs")}


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
