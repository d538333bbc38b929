"""A stage makes a directory from settings and inputs: once, whole, anew only if those change."""

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


def once(
    name: str, directory: Path, settings: Recipe, inputs: list[Path], make: Callable[[Path], None]
) -> bool:
    """Let `make` fill a temporary directory and put it in place as `directory`.

    Nothing is done (and False returned) when `directory` was finished by the same settings from
    the same inputs, which are compared by their contents. A directory that is not ours is refused.
    """
    directory = Path(directory)
    record = {
        "stage": name,
        "settings": settings.model_dump(mode="json"),
        "inputs": {str(path): fingerprint(path) for path in inputs},
    }
    previous = _previous(directory)
    if previous is not None:
        changed = differences(_comparable(previous), _comparable(record))
        if not changed:
            _say(f"{name}: {directory} is finished already")
            return False
        _say(f"{name}: making {directory} anew, since " + "; ".join(changed)[:300])
    rank = ranks.current().rank
    temporary = directory.with_name(f".{directory.name}.making{rank or ''}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    began = time.monotonic()
    make(temporary)
    if rank:  # the first rank's directory is the product
        shutil.rmtree(temporary)
        return True
    write_json(temporary / RECORD, record | {"seconds": round(time.monotonic() - began, 1)})
    if directory.exists():
        shutil.rmtree(directory)
    temporary.replace(directory)
    _say(f"{name}: {directory} written in {time.monotonic() - began:.0f} s")
    return True


def fingerprint(path: Path) -> str:
    """Hash of a file, or of the weights in a directory."""
    path = Path(path)
    if path.is_file():
        return sha256(path)
    for name in ("model.safetensors", "model.onnx", "model.pdiparams"):
        if (path / name).is_file():
            return sha256(path / name)
    raise UserError(f"{path}: no model there (model.safetensors, model.onnx or model.pdiparams)")


def _previous(directory: Path) -> dict | None:
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


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
