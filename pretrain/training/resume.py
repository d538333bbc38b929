"""The state of a run: saved with every checkpoint, checked and restored by the next start."""

import contextlib
import copy
import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from paddle import nn

from data_pipeline.base import recipes
from data_pipeline.base.errors import UserError
from data_pipeline.loading.order import State, World
from data_pipeline.shards.format import VOCABULARY, Manifest
from pretrain.training import checkpoint, parallel, precision
from pretrain.training.settings import TrainingRecipe

# A resumed run may differ in these and still be the same run.
FREE_TO_CHANGE = (
    *("output_dir", "data.shards", "data.workers"),
    *("optimizer.sharded", "checkpoint", "monitor", "safety"),
)
BIT_FOR_BIT = ("OMP_NUM_THREADS", "MKL_DEBUG_CPU_TYPE")  # they decide the order of float sums

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
    """Load the newest whole checkpoint into `objective` and `optimizer`; a fresh state without one.

    Raises:
        UserError: it belongs to another run, or the ranks do not see the same checkpoint.
    """
    report = print if world.rank == 0 else lambda _: None
    folder = checkpoint.folder(recipe.output_dir)
    newest = checkpoint.newest(folder, report)
    if not parallel.same_on_all_ranks(newest.step if newest else -1, world):
        raise UserError(
            f"{folder}: the ranks do not see the same newest checkpoint there; "
            "output_dir must be a directory that all nodes share"
        )
    if newest is None:
        return TrainState(precision.initial_scale(recipe.precision))
    saved = newest.state()
    changed = differences(saved, recipe, manifest)
    if changed:
        raise UserError(
            f"{newest.path} cannot be resumed by this recipe:\n"
            + "\n".join(f"  {text}" for text in changed)
            + "\n  Undo the change, or give the run another output_dir."
        )
    for text in recipes.differences(saved["environment"], environment()):
        report(f"{newest.path}: {text}; the last bits of sums will differ from before")
    checkpoint.load(newest, objective, optimizer)
    report(f"{newest.path}: resuming from step {newest.step}")
    scale, position = saved["loss_scale"], saved["order"]
    return TrainState(precision.LossScale(**scale), **saved["counters"], order=State(**position))


def save(
    objective: nn.Layer,
    optimizer,
    recipe: TrainingRecipe,
    manifest: Manifest,
    world: World,
    state: TrainState,
) -> None:
    """Save a checkpoint, and remove those that the recipe does not retain. Rank 0 writes; where
    moments are sharded, the others send it theirs."""
    moments = checkpoint.optimizer_tensors(objective, optimizer)
    if recipe.optimizer.sharded:
        moments = parallel.gather(moments, world)
    if world.rank != 0:
        return
    record = {
        "counters": state.counters,
        "loss_scale": asdict(state.scale),
        "order": asdict(state.order),
        "data_fingerprint": manifest.fingerprint,
        "vocab_sha256": manifest.vocab_sha256,
        "recipe": recipe.model_dump(mode="json"),
        "world_size": world.size,
        "environment": environment(),
    }
    folder = checkpoint.folder(recipe.output_dir)
    checkpoint.save(folder, state.step, objective, moments, record)
    checkpoint.retain(folder, recipe.checkpoint.keep_last, recipe.checkpoint.keep_every)


def differences(saved: dict, recipe: TrainingRecipe, manifest: Manifest) -> list[str]:
    """What makes a saved state that of another run, each with its field; empty when nothing."""
    changed = recipes.differences(
        without(saved["recipe"], FREE_TO_CHANGE),
        without(recipe.model_dump(mode="json"), FREE_TO_CHANGE),
    )
    if saved["vocab_sha256"] != manifest.vocab_sha256:
        changed.append(f"{recipe.data.shards}/{VOCABULARY}: another vocabulary")
    elif saved["data_fingerprint"] != manifest.fingerprint:
        changed.append(f"{recipe.data.shards}: other shards than those it was trained on")
    return changed


def without(values: dict[str, Any], fields: Iterable[str]) -> dict[str, Any]:
    """A copy of nested `values` that lacks the fields of these dotted names."""
    values = copy.deepcopy(values)
    for field_name in fields:
        *parents, last = field_name.split(".")
        section = values
        for key in parents:
            section = section.get(key, {})
        section.pop(last, None)
    return values


def environment() -> dict[str, str | None]:
    """The variables that a bit-for-bit resume depends on."""
    return {name: os.environ.get(name) for name in BIT_FOR_BIT}
