"""Weights on disk: safetensors in and out, nothing unpickled."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import paddle
from paddle import nn

from data_pipeline.base.errors import UserError
from data_pipeline.base.files import whole_file

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = ("model_state.pdparams", "pytorch_model.bin")
SHOWN = 5  # names listed in an error


def write(path: Path, state: Mapping[str, paddle.Tensor | np.ndarray]) -> None:
    """Write a state dict as one safetensors file, whole or not at all."""
    from safetensors.numpy import save_file

    arrays = {
        name: np.ascontiguousarray(value.numpy() if isinstance(value, paddle.Tensor) else value)
        for name, value in state.items()
    }
    with whole_file(Path(path)) as temporary:
        save_file(arrays, str(temporary), metadata={"format": "np"})


def read(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file, or of a directory that holds one or an index of several.

    bfloat16 is widened to float32. UserError when there is none, when it is damaged, or when only a
    pickle is there, which is refused.
    """
    path = Path(path)
    files = _files_of(path) if path.is_dir() else [path]
    tensors: dict[str, np.ndarray] = {}
    for file in files:
        if file.suffix != ".safetensors":
            raise UserError(f"{file}: not safetensors; pickled weights are never loaded")
        tensors.update(_read_file(file))
    return tensors


def load_into(layer: nn.Layer, tensors: Mapping[str, np.ndarray], where: str) -> None:
    """Copy `tensors` into `layer` by name. Every name must be there with its shape, and no other.

    UserError lists what is missing, unexpected or of another shape.
    """
    own = layer.state_dict()
    problems = [
        *_named("missing", own.keys() - tensors.keys()),
        *_named("not part of the model", tensors.keys() - own.keys()),
        *_named(
            "of another shape",
            {
                f"{name} {list(tensors[name].shape)} for {list(own[name].shape)}"
                for name in own.keys() & tensors.keys()
                if list(own[name].shape) != list(tensors[name].shape)
            },
        ),
    ]
    if problems:
        raise UserError(f"{where}: the weights do not fit the model: " + "; ".join(problems))
    for name, parameter in own.items():
        parameter.set_value(np.asarray(tensors[name]).astype(_numpy_dtype(parameter)))


def _files_of(directory: Path) -> list[Path]:
    if (directory / WEIGHTS).is_file():
        return [directory / WEIGHTS]
    if (directory / INDEX).is_file():
        index = json.loads((directory / INDEX).read_text(encoding="utf-8"))
        return [directory / name for name in sorted(set(index["weight_map"].values()))]
    pickles = [name for name in PICKLES if (directory / name).is_file()]
    if pickles:
        raise UserError(
            f"{directory}: only {', '.join(pickles)} is there, which is a pickle and may run any "
            f"code; convert it to {WEIGHTS} where you trust it"
        )
    raise UserError(f"{directory}: no {WEIGHTS}")


def _read_file(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError, deserialize

    try:
        entries = deserialize(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: not there") from None
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: damaged, or not safetensors: {error}") from None
    return {name: _as_array(entry) for name, entry in entries}


def _as_array(entry: dict) -> np.ndarray:
    shape, kind = entry["shape"], entry["dtype"]
    if kind == "BF16":  # numpy has no bfloat16: its bits are the upper half of a float32
        halves = np.frombuffer(entry["data"], np.uint16).astype(np.uint32)
        return (halves << 16).view(np.float32).reshape(shape)
    names = {"F": "float", "I": "int", "U": "uint"}
    dtype = "bool" if kind == "BOOL" else names[kind[0]] + kind[1:]
    return np.frombuffer(entry["data"], dtype).reshape(shape)


def _named(what: str, names: set[str]) -> list[str]:
    if not names:
        return []
    shown = ", ".join(sorted(names)[:SHOWN])
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return [f"{what}: {shown}{more}"]


def _numpy_dtype(parameter: paddle.Tensor) -> str:
    name = str(parameter.dtype).removeprefix("paddle.")
    return "float32" if name == "bfloat16" else name
