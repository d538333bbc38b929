"""Weights on disk: safetensors in and out, nothing unpickled."""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.base.errors import UserError
from data_pipeline.base.files import whole_file
from pretrain.encoders import plain_pickle

if TYPE_CHECKING:  # files can be looked at without Paddle
    import paddle
    from paddle import nn

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = ("model_state.pdparams", "pytorch_model.bin")
READ = ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "U16", "U32", "U64", "BOOL")
NOT_READ = "{}: not safetensors, and no other weights are read"
SHOWN = 5  # names listed in an error


def write(path: Path, state: "Mapping[str, paddle.Tensor | np.ndarray]", form: str = "np") -> None:
    """Write a state dict as one safetensors file, whole or not at all; bfloat16 as float32.

    form: `format` in the file's metadata; `pt` for what transformers opens.
    """
    from safetensors.numpy import save_file

    arrays = {name: np.ascontiguousarray(_as_stored(value)) for name, value in state.items()}
    with whole_file(Path(path)) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode  # by the umask; safetensors would make it 0600
        save_file(arrays, str(temporary), metadata={"format": form})
        temporary.chmod(mode)


def read(path: Path, file: str = WEIGHTS) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file, or of `file` in a directory (or of an index of several).

    bfloat16 is widened to float32. A pickle is read only when `file` names it, and then only plain
    arrays are read from it (see `pretrain.encoders.plain_pickle`). UserError when nothing is
    there, when it is damaged, or when only a pickle is there.
    """
    path = Path(path)
    tensors: dict[str, np.ndarray] = {}
    for part in files_of(path, file) if path.is_dir() else [path]:
        if part.suffix == ".safetensors":
            tensors.update(_read_safetensors(part))
        elif path.is_dir() and part.suffix == ".pdparams":
            arrays = plain_pickle.read_arrays(part).items()
            tensors.update({n: widened(x) if x.dtype == np.uint16 else x for n, x in arrays})
        else:
            raise UserError(NOT_READ.format(part))
    return tensors


def load_into(layer: "nn.Layer", tensors: Mapping[str, np.ndarray], where: str) -> None:
    """Copy `tensors` into `layer` by name. Every name must be there with its shape, and no other.

    UserError lists what is missing, unexpected or of another shape.
    """
    import paddle

    expected = layer.state_dict()
    problems = [
        *_named("missing", expected.keys() - tensors.keys()),
        *_named("not part of the model", tensors.keys() - expected.keys()),
        *_named(
            "of another shape",
            {
                f"{name} {list(tensors[name].shape)} for {list(expected[name].shape)}"
                for name in expected.keys() & tensors.keys()
                if list(expected[name].shape) != list(tensors[name].shape)
            },
        ),
    ]
    if problems:
        raise UserError(f"{where}: the weights do not fit the model: " + "; ".join(problems))
    for name, parameter in expected.items():
        kind = str(parameter.dtype).removeprefix("paddle.")
        array = np.asarray(tensors[name]).astype("float32" if kind == "bfloat16" else kind)
        tensor = paddle.to_tensor(array, place=paddle.CPUPlace())
        parameter.set_value(tensor.astype(parameter.dtype))


def digest(state: "Mapping[str, paddle.Tensor]") -> str:
    """SHA-256 of a state dict, whatever file it came from."""
    hasher = hashlib.sha256()
    for name in sorted(state):
        array = np.ascontiguousarray(_as_stored(state[name]))
        hasher.update(f"{name} {array.dtype} {array.shape}\n".encode())
        hasher.update(array.data)
    return hasher.hexdigest()


def files_of(directory: Path, file: str = WEIGHTS) -> list[Path]:
    """The weight files of a directory; UserError when there are none that are read."""
    if (directory / file).is_file():
        return [directory / file]
    if file == WEIGHTS and (directory / INDEX).is_file():
        return _files_in_index(directory)
    pickles = [name for name in PICKLES if (directory / name).is_file()]
    if pickles:
        raise UserError(
            f"{directory}: no {file}, only {', '.join(pickles)}, which is a pickle and may run any "
            f"code. Convert it to {WEIGHTS} where you trust it, or name it: model_state.pdparams "
            "as teacher.weights (only plain arrays are then read from it)"
        )
    raise UserError(f"{directory}: no {file}")


def shapes(directory: Path, file: str = WEIGHTS) -> dict[str, list[int]]:
    """Shapes of the tensors of a directory, from the safetensors headers alone; none for a pickle.

    UserError as from `read`.
    """
    shapes_by_name: dict[str, list[int]] = {}
    for path in files_of(directory, file):
        if path.suffix == ".pdparams":
            continue
        if path.suffix != ".safetensors":
            raise UserError(NOT_READ.format(path))
        with _open(path) as tensors:
            names = tensors.keys()
            shapes_by_name |= {name: tensors.get_slice(name).get_shape() for name in names}
    return shapes_by_name


def _files_in_index(directory: Path) -> list[Path]:
    try:
        index = json.loads((directory / INDEX).read_text(encoding="utf-8"))
        names = sorted(set(index["weight_map"].values()), key=str)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{directory / INDEX}: unreadable: {error!r}") from None
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:
            raise UserError(f"{directory / INDEX}: {name!r} is not a file in the same directory")
        if not (directory / name).is_file():
            raise UserError(f"{directory / INDEX}: names {name}, which is not there")
    return [directory / name for name in names]


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    with _open(path) as tensors:  # tensor by tensor: the whole file twice may be too much
        names = tensors.keys()
        return {name: _as_array(path, name, tensors) for name in names}


@contextlib.contextmanager
def _open(path: Path) -> Iterator:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as tensors:
            yield tensors
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: damaged, or not safetensors: {error}") from None


def _as_array(path: Path, name: str, tensors) -> np.ndarray:
    kind = tensors.get_slice(name).get_dtype()
    if kind not in READ:
        raise UserError(f"{path}: {name} is {kind}; read are {', '.join(READ)}")
    value = tensors.get_tensor(name)
    return value.astype(np.float32) if kind == "BF16" else value


def widened(halves: np.ndarray) -> np.ndarray:
    """bfloat16 in uint16, as Paddle pickles it, to float32, whose upper half it is."""
    return (halves.astype(np.uint32) << 16).view(np.float32)


def _named(what: str, names: set[str]) -> list[str]:
    if not names:
        return []
    shown = ", ".join(sorted(names)[:SHOWN])
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return [f"{what}: {shown}{more}"]


def _as_stored(value: "paddle.Tensor | np.ndarray") -> np.ndarray:
    import paddle

    if not isinstance(value, paddle.Tensor):
        return value
    return (value.astype("float32") if value.dtype == paddle.bfloat16 else value).numpy()
