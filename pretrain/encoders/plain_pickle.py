"""Arrays out of PaddlePaddle's pickled weights, without running what a pickle may ask to run."""

import pickle
from pathlib import Path

import numpy as np

from data_pipeline.base.errors import UserError

# What a pickled `{name: numpy array}` needs to be put together again. Nothing else is looked up.
ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("collections", "OrderedDict"),
    ("_codecs", "encode"),  # bytes, as protocol 2 has them
}
NAMES = "StructuredToParameterName@@"  # paddle.save adds it: a mapping of names


class ArraysOnly(pickle.Unpickler):
    """Refuses every class and function but numpy's own."""

    def find_class(self, module: str, name: str):
        """What pickle calls for each global that a file names."""
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module, name)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a `.pdparams` file as `paddle.save(layer.state_dict(), ...)` writes it,
    bfloat16 as uint16. UserError for anything else.
    """
    try:
        with Path(path).open("rb") as file:
            state = ArraysOnly(file).load()
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise UserError(
            f"{path}: not plain arrays, so it is not read: {error}; convert it to safetensors "
            "where you trust it"
        ) from None
    if not isinstance(state, dict):
        raise UserError(f"{path}: holds no mapping of names to arrays")
    state.pop(NAMES, None)
    for name, value in state.items():
        if not isinstance(value, np.ndarray) or value.dtype.hasobject:
            raise UserError(f"{path}: {name!r} is not an array of numbers")
    return dict(state)
