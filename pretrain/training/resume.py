"""The state of a run: saved with every checkpoint (see `saving`), checked and restored by the next
start."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

from paddle import nn

from data_pipeline.base import recipes
from data_pipeline.base.errors import UserError
from data_pipeline.loading.order import State, World
from data_pipeline.shards.format import VOCABULARY, Manifest
from pretrain.encoders import device
from pretrain.training import checkpoint, parallel, precision
from pretrain.training.initial import load_initial_weights
from pretrain.training.same_run import recipe_differences, refusal
from pretrain.training.settings import TrainingRecipe

BIT_FOR_BIT = ("OMP_NUM_THREADS", "MKL_DEBUG_CPU_TYPE")  # they decide the order of float sums

# Set by the launcher or by Fleet, not by the user.
NOT_OURS = ("FLAGS_selected_gpus", "FLAGS_selected_xpus", "FLAGS_nccl_nrings")
LIBRARIES = ("paddlepaddle", "paddlenlp", "numpy")

LOCK = ".lock"


@dataclass(frozen=True)
class TrainState:
    """How far a run is. All of it is in a checkpoint, and only what was trained on counts."""

    scale: precision.LossScale
    step: int = 0
    updates: int = 0
    """Steps that changed the weights; the schedule counts these."""
    skipped_in_a_row: int = 0
    order: State = field(default_factory=State)

    def after(self, finite: bool, position: State) -> "TrainState":
        """The state after one more step; only a finite one is an update."""
        return replace(
            self,
            scale=self.scale.after(finite),
            step=self.step + 1,
            updates=self.updates + int(finite),
            skipped_in_a_row=0 if finite else self.skipped_in_a_row + 1,
            order=position,
        )

    @property
    def counters(self) -> dict[str, int]:
        """The plain numbers."""
        return {name: getattr(self, name) for name in ("step", "updates", "skipped_in_a_row")}


@contextlib.contextmanager
def lock(output_dir: Path, seconds: float = 10.0) -> Iterator[None]:
    """Inside, this process alone writes the run; UserError when another one still holds the lock
    after `seconds`. The lock is the kernel's: it is released whatever ends its holder."""
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        file = (output_dir / LOCK).open("a")
    except OSError as error:
        raise UserError(f"output_dir: {output_dir} cannot be written: {error}") from None
    with file:
        deadline = time.monotonic() + seconds
        while not _try_lock(file):
            if time.monotonic() >= deadline:
                raise UserError(
                    f"{output_dir}: another process trains this run; end it first, or give this "
                    "run another output_dir"
                )
            time.sleep(0.1)
        yield


def _try_lock(file) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # some cluster file systems have no locks
        print(f"{file.name}: cannot be locked ({error}); start this run only once at a time")
    return True


def restore(
    objective: nn.Layer, optimizer, recipe: TrainingRecipe, manifest: Manifest, world: World
) -> TrainState:
    """Load the newest whole checkpoint into `objective` and `optimizer`; a fresh state without one,
    from the weights that `init_from` names. Rank 0 verifies and compares for all ranks.

    Raises:
        UserError: the checkpoint belongs to another run, none of several is whole, or a rank does
            not see it.
    """
    folder = checkpoint.folder(recipe.output_dir)
    step = -1
    with parallel.fail_together(world):
        if world.rank == 0:
            step = verified_step(folder, objective, recipe, manifest, world)
    step = parallel.from_rank_0(step, world)
    with parallel.fail_together(world):
        if step < 0:
            if recipe.init_from:
                load_initial_weights(objective, recipe.init_from)
            return TrainState(precision.initial_scale(recipe.precision))
        saved = checkpoint.SavedCheckpoint(step, folder / f"step-{step}")
        if not (saved.path / checkpoint.MARKER).exists():
            raise UserError(
                f"{saved.path}: rank {world.rank} does not see this checkpoint, rank 0 does; "
                "output_dir must be a directory that all nodes share"
            )
        record = checkpoint.load(saved, objective, optimizer)
    return TrainState(
        precision.LossScale(**record["loss_scale"]),
        **record["counters"],
        order=State(**record["order"]),
    )


def verified_step(
    folder: Path, objective: nn.Layer, recipe: TrainingRecipe, manifest: Manifest, world: World
) -> int:
    """Step of the newest whole checkpoint of this very run, -1 when there is none at all."""
    newest = checkpoint.newest(folder)
    if newest is None:
        if checkpoint.complete(folder):
            raise UserError(
                f"{folder}: none of the checkpoints is whole. Restore one of them from a copy; or, "
                "to begin again, remove them or give the run another output_dir"
            )
        return -1
    saved = newest.state()
    changed = differences(saved, recipe, manifest, objective.identity)
    if changed:
        raise UserError(refusal(newest.path, changed))
    for text in recipes.differences(saved["environment"], environment(world)):
        print(f"{newest.path}: {text}; the last bits of sums will differ from before")
    print(f"{newest.path}: resuming from step {newest.step}")
    return newest.step


def differences(
    saved: dict, recipe: TrainingRecipe, manifest: Manifest, identity: dict[str, str]
) -> list[str]:
    """What makes a saved state that of another run, each with its field; empty when nothing."""
    changed = recipe_differences(saved["recipe"], recipe, saved["counters"]["step"])
    if saved["vocab_sha256"] != manifest.vocab_sha256:
        changed.append(f"{recipe.data.shards}/{VOCABULARY}: another vocabulary")
    elif saved["data_fingerprint"] != manifest.fingerprint:
        changed.append(f"{recipe.data.shards}: other shards than those it was trained on")
    for name, digest in identity.items():
        if saved["identity"].get(name) != digest:
            changed.append(f"{name}: other weights than those it was trained with")
    return changed


def environment(world: World) -> dict[str, str | int | None]:
    """What a bit-for-bit resume depends on besides the recipe: variables, versions, ranks."""
    flags = {name: value for name, value in os.environ.items() if name.startswith("FLAGS_")}
    return {
        **{name: os.environ.get(name) for name in BIT_FOR_BIT},
        **{name: value for name, value in sorted(flags.items()) if name not in NOT_OURS},
        **{name: version(name) for name in LIBRARIES},
        "device": "gpu" if device.on_gpu() else "cpu",
        "world_size": world.size,
    }
