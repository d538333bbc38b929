"""OpenVINO on a CPU, for the ONNX files that this project writes, FP32 and INT8."""

import threading
from pathlib import Path

import numpy as np

from data_pipeline.base.errors import UserError
from data_pipeline.base.openvino_cpu import compile_model, has_bfloat16
from finetune.deploy.formats import check_inputs

LENGTH_STEP = 8
"""Texts are padded to a multiple of it. OpenVINO prepares kernels for each new shape of a batch and
keeps them: with every length there are eight times as many, which take memory."""


class OpenVinoBackend:
    """A graph from ids to logits. Calls from several threads take turns."""

    def __init__(
        self, path: Path, threads: int = 2, *, bfloat16: bool = False, max_length: int | None = None
    ):
        """max_length: tokens that no batch is padded beyond; None: padding has no limit."""
        if not path.is_file():
            raise UserError(f"{path}: no such ONNX file")
        try:
            self.model = compile_model(path, threads, bfloat16=bfloat16 and has_bfloat16())
        except RuntimeError as error:
            raise UserError(f"{path}: OpenVINO cannot open it: {str(error)[-300:]}") from None
        types = {item.get_any_name(): item.get_element_type() for item in self.model.inputs}
        check_inputs(path, {name: f"tensor({kind.to_dtype()})" for name, kind in types.items()})
        self.max_length = max_length
        self.turn = threading.Lock()

    def logits(self, input_ids: np.ndarray, token_type_ids: np.ndarray) -> np.ndarray:
        """float32 [B, classes]; of a model for tokens [B, L, classes]."""
        length = input_ids.shape[1]
        more = padded_length(length, self.max_length) - length
        feed = {
            name: np.pad(ids, ((0, 0), (0, more))) if more else ids
            for name, ids in (("input_ids", input_ids), ("token_type_ids", token_type_ids))
        }
        with self.turn:
            result = self.model(feed)[0]
        return result[:, :length] if result.ndim == 3 else result


def padded_length(length: int, max_length: int | None) -> int:
    """Tokens to which a batch of `length` tokens is padded."""
    stepped = -(-length // LENGTH_STEP) * LENGTH_STEP
    return stepped if max_length is None else max(length, min(stepped, max_length))
