"""Checkpoints that are complete or do not count.

    checkpoints/step-N/
        model.safetensors        the objective's weights, frozen ones too
        optimizer.safetensors    AdamW's moments, by the weights' own names; where they are sharded,
                                 optimizer-RANK-of-SIZE.safetensors, written by each rank
        state.json               counters, loss scale, position in the data, recipe, environment
        complete.json            written last: size and digest of the others

A step is written under a temporary name, synced, marked and only then renamed. Dropout and masking
draw from seeds that are functions of the step, so there is no generator state to save.
"""

import contextlib
import json
import re
import shutil
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.base.errors import UserError
from data_pipeline.base.files import sha256, sync, write_json
from pretrain.encoders import weights

if TYPE_CHECKING:  # checkpoints are listed without Paddle
    import paddle
    from paddle import nn

MARKER = "complete.json"
STEP = re.compile(r"step-(\d+)$")
FILES = ("model.safetensors", "optimizer.safetensors", "state.json")
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class SavedCheckpoint:
    """A complete checkpoint on disk."""

    step: int
    path: Path

    def state(self) -> dict:
        """The `state` of its snapshot."""
        return json.loads((self.path / "state.json").read_text(encoding="utf-8"))


def folder(output_dir: Path) -> Path:
    """Where the checkpoints of a run lie."""
    return output_dir / "checkpoints"


@dataclass(frozen=True)
class Snapshot:
    """What one rank writes of a checkpoint: copies in host memory, so training may go on."""

    step: int
    model: dict[str, np.ndarray]
    """The objective's weights; empty on all ranks but the first."""
    moments: dict[str, np.ndarray]
    """Those that this rank holds."""
    state: dict


def snapshot(
    step: int,
    model: "Mapping[str, paddle.Tensor]",
    moments: "Mapping[str, paddle.Tensor]",
    state: dict,
) -> Snapshot:
    """Copy weights and moments to host memory."""
    return Snapshot(step, _copied(model), _copied(moments), state)


def _copied(tensors: "Mapping[str, paddle.Tensor]") -> dict[str, np.ndarray]:
    import paddle

    return {  # `numpy` copies, also from the host's memory; it knows no bfloat16
        name: (value.astype("float32") if value.dtype == paddle.bfloat16 else value).numpy()
        for name, value in tensors.items()
    }


def begin(folder: Path, step: int) -> None:
    """Make the temporary directory of a checkpoint, on one rank."""
    with _reported(folder, step):
        shutil.rmtree(_temporary(folder, step), ignore_errors=True)
        _temporary(folder, step).mkdir(parents=True)


def moment_file(rank: int, ranks: int) -> str:
    """Where the moments of a rank are, one of `ranks` that hold some."""
    return FILES[1] if ranks == 1 else f"optimizer-{rank:05d}-of-{ranks:05d}.safetensors"


def write_moments(folder: Path, taken: Snapshot, rank: int = 0, ranks: int = 1) -> None:
    """Write the moments of a rank, one of `ranks` that hold some."""
    # Other ranks may still be writing into the directory: then whoever commits removes it.
    with _reported(folder, taken.step, remove=ranks == 1):
        weights.write(_temporary(folder, taken.step) / moment_file(rank, ranks), taken.moments)


def wait_for_moments(folder: Path, step: int, ranks: int, stopped: threading.Event) -> bool:
    """Wait until all of `ranks` have written their moments; False, and nothing is left of the
    checkpoint, when `stopped` is set before."""
    # Asked for by name: a network file system may show the listing of a directory late.
    paths = [_temporary(folder, step) / moment_file(rank, ranks) for rank in range(ranks)]
    while not all(path.exists() for path in paths):
        if stopped.wait(POLL_SECONDS):
            shutil.rmtree(_temporary(folder, step), ignore_errors=True)
            return False
    return True


def commit(folder: Path, taken: Snapshot, ranks: int = 1) -> Path:
    """Write the rest on one rank, once all `ranks` have written their moments: the marker comes
    last."""
    step = taken.step
    final, temporary = folder / f"step-{step}", _temporary(folder, step)
    with _reported(folder, step):
        weights.write(temporary / FILES[0], taken.model)
        write_json(temporary / FILES[2], taken.state)
        names = {FILES[0], FILES[2], *(moment_file(rank, ranks) for rank in range(ranks))}
        digests = {
            name: {"bytes": (temporary / name).stat().st_size, "sha256": sha256(temporary / name)}
            for name in sorted(names)
        }
        write_json(temporary / MARKER, {"step": step, "files": digests})
        sync(temporary)
        shutil.rmtree(final, ignore_errors=True)  # incomplete, or this step would not be saved
        temporary.rename(final)
        sync(folder)
    return final


def _temporary(folder: Path, step: int) -> Path:
    return folder / f".step-{step}.tmp"


@contextlib.contextmanager
def _reported(folder: Path, step: int, remove: bool = True) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        if remove:
            shutil.rmtree(_temporary(folder, step), ignore_errors=True)
        raise UserError(
            f"{folder / f'step-{step}'}: cannot be written: {error}; older checkpoints are "
            "untouched, and the same command resumes from the newest of them"
        ) from None


def complete(folder: Path) -> list[SavedCheckpoint]:
    """Complete checkpoints, oldest first."""
    checkpoints = [
        SavedCheckpoint(int(match.group(1)), marker.parent)
        for marker in folder.glob(f"step-*/{MARKER}")
        if (match := STEP.search(marker.parent.name))
    ]
    return sorted(checkpoints, key=lambda item: item.step)


def newest(folder: Path, report=print) -> SavedCheckpoint | None:
    """The newest checkpoint whose files are what its marker says; damaged ones are reported."""
    for saved in reversed(complete(folder)):
        damage = damaged(saved)
        if not damage:
            return saved
        report(f"{saved.path}: {damage}; an older checkpoint is used instead")
    return None


def damaged(saved: SavedCheckpoint) -> str:
    """What is wrong with a checkpoint's files, empty when nothing is."""
    try:
        recorded = json.loads((saved.path / MARKER).read_text(encoding="utf-8"))["files"]
        for name, entry in recorded.items():
            if sha256(saved.path / name) != entry["sha256"]:
                return f"{name} has changed since it was written"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"unreadable: {error}"
    return ""


def load(saved: SavedCheckpoint, layer: "nn.Layer", optimizer) -> dict:
    """Load weights and moments; return the saved state."""
    weights.load_into(layer, weights.read(saved.path / FILES[0]), str(saved.path))
    moments: dict = {}
    for path in sorted(saved.path.glob("optimizer*.safetensors")):
        moments |= weights.read(path)
    set_optimizer_tensors(layer, optimizer, moments)
    return saved.state()


def retain(folder: Path, keep_last: int, keep_every: int) -> None:
    """Remove what the recipe does not retain, and leftovers of interrupted writing.

    The newest complete one always stays.
    """
    for leftover in [*folder.glob(".step-*.tmp"), *folder.glob(".step-*.removed")]:
        shutil.rmtree(leftover, ignore_errors=True)
    for saved in complete(folder)[: -max(1, keep_last)]:
        if not (keep_every and saved.step % keep_every == 0):
            # Renamed first: a removal that is interrupted leaves no half-empty `step-N`.
            removed = saved.path.with_name(f".{saved.path.name}.removed")
            saved.path.rename(removed)
            shutil.rmtree(removed, ignore_errors=True)


def optimizer_tensors(layer: "nn.Layer", optimizer) -> "dict[str, paddle.Tensor]":
    """The optimiser's tensors under `weight name/kind`. Paddle's own keys are generated names,
    which depend on what else was built before."""
    import paddle

    state = optimizer.state_dict()
    tensors = {}
    for name, parameter in layer.named_parameters():
        for key, value in state.items():
            if isinstance(value, paddle.Tensor) and key.startswith(f"{parameter.name}_"):
                tensors[f"{name}/{key.removeprefix(f'{parameter.name}_')}"] = value
    return tensors


def set_optimizer_tensors(layer: "nn.Layer", optimizer, tensors: dict) -> None:
    """The reverse of `optimizer_tensors`; those of weights that `optimizer` does not update (other
    ranks do) are left out."""
    import paddle

    updated = {parameter.name for parameter in optimizer._parameter_list}
    names = {n: p.name for n, p in layer.named_parameters() if p.name in updated}
    state = {}
    for key, value in tensors.items():
        name, _, kind = key.partition("/")
        if name in names:
            state[f"{names[name]}_{kind}"] = paddle.to_tensor(value)
    optimizer.set_state_dict(state)
