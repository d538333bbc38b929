"""Formats of an exported classifier. A new one is one function and one entry in FORMATS."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from data_pipeline.base.errors import UserError
from finetune.deploy.onnx_graph import fuse

OPSET = 17  # the first with LayerNormalization as one operator


def write_onnx(static: Path, directory: Path) -> None:
    """model.onnx from Paddle's static graph (`static`, a directory), fused for ONNX Runtime."""
    to_onnx(static, static / "model.onnx")
    fuse(static / "model.onnx", directory / "model.onnx")


def write_paddle(static: Path, directory: Path) -> None:
    """Paddle's static graph as it is: model.json and model.pdiparams."""
    for name in ("model.json", "model.pdiparams"):
        shutil.copyfile(static / name, directory / name)


def to_onnx(static: Path, output: Path) -> None:
    """Convert with paddle2onnx, in a process of its own since a failure there can abort it."""
    arguments = ["--model_dir", str(static), "--model_filename", "model.json"]
    arguments += ["--params_filename", "model.pdiparams", "--save_file", str(output)]
    arguments += ["--opset_version", str(OPSET), "--enable_auto_update_opset", "False"]
    code = "import sys; from paddle2onnx.command import main; sys.argv[0] = 'paddle2onnx'; main()"
    # without this, paddle2onnx's constant folding installs packages while it runs
    environment = os.environ | {"POLYGRAPHY_AUTOINSTALL_DEPS": "0"}
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode or not output.exists():
        raise UserError(
            f"paddle2onnx ended with exit code {process.returncode}:\n"
            f"{(process.stderr or process.stdout)[-2000:]}"
        )


@dataclass(frozen=True)
class Format:
    """How a static graph is written, and which entry of `backends.BACKENDS` runs it."""

    write: Callable[[Path, Path], None]
    """Of (directory of the static graph, output directory)."""
    backend: str


FORMATS = {
    "onnx": Format(write_onnx, "onnxruntime"),
    "paddle": Format(write_paddle, "paddle_inference"),
}
