"""What computes logits: ONNX Runtime, OpenVINO, Paddle Inference, or the dynamic model; one
interface."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from data_pipeline.base.errors import UserError
from data_pipeline.base.machine import int8_weight_peak
from data_pipeline.base.recipes import check
from finetune.deploy.formats import check_inputs
from finetune.deploy.onnx_session import CPU, CUDA, DISABLED, open_session
from finetune.settings import LONGEST, InferenceSettings
from finetune.training.batches import Encoded, sorted_by_length
from finetune.training.files import check_threshold


class Backend(Protocol):
    """Logits float32 [B, classes] for int64 [B, L] `input_ids` and `token_type_ids`.

    Of an exported encoder: the vectors float32 [B, H] in their place.
    """

    def logits(self, input_ids: np.ndarray, token_type_ids: np.ndarray) -> np.ndarray: ...


def read_deploy(directory: Path) -> dict:
    """deploy.json of an exported directory; UserError when it is missing or damaged."""
    path = Path(directory) / "deploy.json"
    try:
        deploy = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise UserError(
            f"{path}: missing or not JSON; `export` and `quantise` write deployable directories"
        ) from None
    if not isinstance(deploy, dict):
        raise UserError(f"{path}: must be a JSON object, is {str(deploy)[:60]}")
    for name in ("backend", "kind", "precision"):
        if not isinstance(deploy.get(name, ""), str):
            raise UserError(f"{path}: {name} {deploy[name]!r} is not a name")
    if deploy.get("backend") not in BACKENDS:
        raise UserError(
            f"{path}: backend {deploy.get('backend')!r} is not one of {', '.join(BACKENDS)}"
        )
    for name, least in (("max_length", 4), ("parameters", 0), ("weight_peak", 0)):
        value = deploy.get(name, least)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise UserError(f"{path}: {name} {value!r} is not a whole number of {least} or more")
    if deploy.get("max_length", 4) > LONGEST:
        raise UserError(f"{path}: max_length {deploy['max_length']} is more than {LONGEST}")
    check_threshold(deploy, path)
    return deploy


def open_backend(directory: Path, threads: int = 2) -> Backend:
    """The backend that deploy.json names; the dynamic model for a classifier directory."""
    directory = Path(directory)
    if not (directory / "deploy.json").exists() and (directory / "model.safetensors").exists():
        return BACKENDS["dynamic"](directory, threads)
    deploy = read_deploy(directory)
    if deploy.get("weight_peak", 0) > int8_weight_peak():
        warnings.warn(
            f"{directory}: its INT8 weights reach {deploy['weight_peak']}, and sums of their "
            "products overflow on this processor (no VNNI); quantise it with "
            f"quantise.weight_peak {int8_weight_peak()}",
            RuntimeWarning,
            stacklevel=2,
        )
    return BACKENDS[deploy["backend"]](directory, threads)


def outputs_of(backend: Backend, data: Encoded, batch_size: int) -> list[np.ndarray]:
    """What a backend gives for each row of encoded texts, in order; batched by length, so that
    little is padded."""
    results: list = [None] * len(data)
    for rows in sorted_by_length(data.lengths, batch_size):
        batch = data.take(rows)
        values = backend.logits(batch["input_ids"], batch["token_type_ids"])
        for row, value in zip(rows, values, strict=True):
            results[row] = value
    return results


class OnnxBackend:
    """ONNX Runtime, on the CPU or by its CUDA provider."""

    def __init__(
        self,
        path: Path,
        threads: int = 2,
        *,
        profile: Path | None = None,
        disabled: tuple[str, ...] = DISABLED,
        device: str = "cpu",
    ):
        if not Path(path).is_file():
            raise UserError(f"{path}: no such ONNX file")
        on_device = providers(path, device)
        try:
            self.session = open_session(
                path, threads, profile=profile, providers=on_device, disabled=disabled
            )
        except Exception as error:  # onnxruntime has no common base class for what it raises
            raise UserError(f"{path}: ONNX Runtime cannot open it: {str(error)[:300]}") from None
        check_inputs(path, {item.name: item.type for item in self.session.get_inputs()})

    def logits(self, input_ids: np.ndarray, token_type_ids: np.ndarray) -> np.ndarray:
        """float32 [B, classes]."""
        feed = {"input_ids": input_ids, "token_type_ids": token_type_ids}
        return self.session.run(None, feed)[0]


def providers(path: Path, device: str) -> list[str]:
    """ONNX Runtime's providers for a device; UserError when it was installed without CUDA."""
    import onnxruntime

    if device == "cpu":
        return [CPU]
    if CUDA not in onnxruntime.get_available_providers():
        raise UserError(
            f"{path}: exported for a GPU, and this ONNX Runtime has no {CUDA}; install "
            "onnxruntime-gpu in place of onnxruntime, or export with inference.device: cpu"
        )
    return [CUDA, CPU]  # the second computes what the first has no kernel for


def open_onnx(directory: Path, threads: int) -> Backend:
    """model.onnx with ONNX Runtime."""
    return OnnxBackend(
        directory / "model.onnx", threads, device=inference_settings(directory).device
    )


def open_openvino(directory: Path, threads: int) -> Backend:
    """model.onnx with OpenVINO."""
    from finetune.deploy.backend_openvino import OpenVinoBackend

    bfloat16 = inference_settings(directory).bfloat16
    longest = read_deploy(directory).get("max_length")
    path = directory / "model.onnx"
    return OpenVinoBackend(path, threads, bfloat16=bfloat16, max_length=longest)


def inference_settings(directory: Path) -> InferenceSettings:
    """How deploy.json says that a graph is run."""
    settings = read_deploy(directory).get("inference", {})
    return check(InferenceSettings, settings, f"{directory}/deploy.json")


def open_paddle_inference(directory: Path, threads: int) -> Backend:
    """model.json with Paddle Inference."""
    from finetune.deploy.backend_paddle import InferenceBackend

    return InferenceBackend(directory, inference_settings(directory), threads)


def open_dynamic(directory: Path, _: int) -> Backend:
    """The classifier itself, in Paddle's dynamic mode."""
    from finetune.deploy.backend_paddle import DynamicBackend
    from finetune.training import classifier

    return DynamicBackend(classifier.load(directory).model)


# A new back-end is one class, one function and one entry here.
BACKENDS: dict[str, Callable[[Path, int], Backend]] = {
    "onnxruntime": open_onnx,
    "openvino": open_openvino,
    "paddle_inference": open_paddle_inference,
    "dynamic": open_dynamic,
}
