"""Formats of an exported classifier. A new one is one function and one entry in FORMATS."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_pipeline.base.errors import UserError
from finetune.deploy.onnx_graph import fuse

INPUTS = ("input_ids", "token_type_ids")
OPSET = 17  # the first with LayerNormalization as one operator


def check_inputs(path: Path, types: dict[str, str]) -> None:
    """UserError unless a graph's inputs, name to type, are those that this project writes."""
    if set(types) != set(INPUTS):
        raise UserError(
            f"{path}: its inputs are {sorted(types)}, not {list(INPUTS)}; "
            "this is not a model that `export` or `quantise` wrote"
        )
    if set(types.values()) != {"tensor(int64)"}:
        raise UserError(f"{path}: its inputs are {types}, not tensor(int64)")


@dataclass(frozen=True)
class Source:
    """A model to be exported."""

    model: Any
    """A `finetune.training.encoder_model.EncoderModel`."""
    labels: list[str]
    """Of a classifier; empty for an encoder."""
    tokenizer: Path
    """Directory of the tokenizer's files."""
    max_length: int
    """Tokens to which a text is cut."""
    problem_type: str | None
    """See `finetune.training.kinds.Kind`; None where transformers has no name for it."""
    write_static: Callable[[Path], None]
    """Write Paddle's static graph, model.json and model.pdiparams, into a directory."""


def write_onnx(source: Source, directory: Path) -> None:
    """model.onnx from Paddle's static graph, fused for ONNX Runtime."""
    with tempfile.TemporaryDirectory() as folder:
        static = Path(folder)
        source.write_static(static)
        write_fused_onnx(static, directory / "model.onnx")


def write_fused_onnx(static: Path, output: Path) -> None:
    """An ONNX file, fused, of the static graph in a directory; the directory gets one too."""
    to_onnx(static, static / "model.onnx")
    fuse(static / "model.onnx", output)


def write_paddle(source: Source, directory: Path) -> None:
    """Paddle's static graph as it is: model.json and model.pdiparams."""
    source.write_static(directory)


def write_hf(source: Source, directory: Path) -> None:
    """What `AutoModelForSequenceClassification` of transformers opens."""
    from pretrain.release.hugging_face import write_hugging_face_classifier

    model = source.model
    write_hugging_face_classifier(
        model.encoder,
        model.classifier,
        directory,
        model.architecture,
        source.labels,
        source.tokenizer,
        source.max_length,
        source.problem_type,
    )


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
    """How a classifier is written, and which entries of `backends.BACKENDS` run it, the first one
    unless a recipe names another."""

    write: Callable[[Source, Path], None]
    """Of (classifier, output directory)."""
    backends: tuple[str, ...]


FORMATS = {
    "onnx": Format(write_onnx, ("onnxruntime", "openvino")),
    "paddle": Format(write_paddle, ("paddle_inference",)),
    "hf": Format(write_hf, ("dynamic",)),
}
