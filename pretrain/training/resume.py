"""Where a run stands: kept with every checkpoint, checked and taken up again by the next start."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from paddle import nn

from data_pipeline.base import recipes
from data_pipeline.base.errors import UserError
from data_pipeline.loading.order import State, World
from data_pipeline.shards.format import VOCABULARY, Manifest
from pretrain.recipe import Run
from pretrain.training import checkpoint, parallel
from pretrain.training import optimizer as optimize

# A resumed run may differ in these and still be the same run.
FREE_TO_CHANGE = (
    *("output_dir", "data.shards", "data.workers", "batch.groups_per_micro_batch"),
    *("optimizer.sharded", "checkpoint", "monitor", "safety"),
)
BIT_FOR_BIT = ("OMP_NUM_THREADS", "MKL_DEBUG_CPU_TYPE")  # they decide the order of float sums

LOCK = ".lock"


@dataclass
class Standing:
    """How far a run is. All of it is in a checkpoint, and only what was trained on counts."""

    scale: optimize.LossScale
    step: int = 0
    updates: int = 0
    """Steps that changed the weights; the schedule counts these."""
    skipped_in_a_row: int = 0
    order: State = field(default_factory=State)

    def after(self, finite: bool, position: State) -> None:
        """One more step was trained; only a finite one is an update."""
        self.step += 1
        self.updates += int(finite)
        self.skipped_in_a_row = 0 if finite else self.skipped_in_a_row + 1
        self.scale, self.order = self.scale.after(finite), position

    @property
    def counters(self) -> dict[str, int]:
        """The plain numbers."""
        return {name: getattr(self, name) for name in ("step", "updates", "skipped_in_a_row")}


@contextlib.contextmanager
def claim(output_dir: Path, seconds: float = 10.0) -> Iterator[None]:
    """Inside, this process alone writes the run; UserError when another one does for `seconds`
    on. The lock is the kernel's: whatever ends its holder gives it back."""
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        file = (output_dir / LOCK).open("a")
    except OSError as error:
        raise UserError(f"output_dir: {output_dir} cannot be written: {error}") from None
    with file:
        deadline = time.monotonic() + seconds
        while not _locked(file):
            if time.monotonic() >= deadline:
                raise UserError(
                    f"{output_dir}: another process trains this run; end it first, or give this "
                    "run another output_dir"
                )
            time.sleep(0.1)
        yield


def _locked(file) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # some cluster file systems have no locks
        print(f"{file.name}: cannot be locked ({error}); start this run only once at a time")
    return True


def folder(recipe: Run) -> Path:
    """Where the checkpoints of a run lie."""
    return recipe.output_dir / "checkpoints"


def take_up(
    objective: nn.Layer, optimizer, recipe: Run, manifest: Manifest, world: World
) -> Standing:
    """Put the newest whole checkpoint into `objective` and `optimizer`; a fresh start without one.

    Raises:
        UserError: it belongs to another run, or the ranks do not see the same checkpoint.
    """
    say = print if world.rank == 0 else lambda _: None
    found = checkpoint.newest(folder(recipe), say)
    if not parallel.same_on_all_ranks(found.step if found else -1, world):
        raise UserError(
            f"{folder(recipe)}: the ranks do not find the same newest checkpoint there; "
            "output_dir must be a directory that all nodes share"
        )
    if found is None:
        return Standing(optimize.initial_scale(recipe.precision))
    saved = found.state()
    changed = differences(saved, recipe, manifest)
    if changed:
        raise UserError(
            f"{found.path} cannot be resumed by this recipe:\n"
            + "\n".join(f"  {text}" for text in changed)
            + "\n  Undo the change, or give the run another output_dir."
        )
    for text in recipes.differences(saved["environment"], environment()):
        say(f"{found.path}: {text}; the last bits of sums will differ from before")
    checkpoint.load(found, objective, optimizer)
    say(f"{found.path}: going on from step {found.step}")
    scale, position = saved["loss_scale"], saved["order"]
    return Standing(optimize.LossScale(**scale), **saved["counters"], order=State(**position))


def keep(
    objective: nn.Layer,
    optimizer,
    recipe: Run,
    manifest: Manifest,
    world: World,
    standing: Standing,
) -> None:
    """Save a checkpoint, and remove those that the recipe does not keep. Rank 0 writes; where
    moments are sharded, the others hand it theirs."""
    moments = checkpoint.optimizer_tensors(objective, optimizer)
    if recipe.optimizer.sharded:
        moments = parallel.gather(moments, world)
    if world.rank != 0:
        return
    state = {
        "counters": standing.counters,
        "loss_scale": asdict(standing.scale),
        "order": asdict(standing.order),
        "data_fingerprint": manifest.fingerprint,
        "vocab_sha256": manifest.vocab_sha256,
        "recipe": recipe.model_dump(mode="json"),
        "world_size": world.size,
        "environment": environment(),
    }
    checkpoint.save(folder(recipe), standing.step, objective, moments, state)
    checkpoint.retain(folder(recipe), recipe.checkpoint.keep_last, recipe.checkpoint.keep_every)


def differences(saved: dict, recipe: Run, manifest: Manifest) -> list[str]:
    """What makes a saved state that of another run, each with its field; empty when nothing."""
    changed = [
        text
        for text in recipes.differences(saved["recipe"], recipe.model_dump(mode="json"))
        if not text.startswith(FREE_TO_CHANGE)
    ]
    if saved["vocab_sha256"] != manifest.vocab_sha256:
        changed.append(f"{recipe.data.shards}/{VOCABULARY}: another vocabulary")
    elif saved["data_fingerprint"] != manifest.fingerprint:
        changed.append(f"{recipe.data.shards}: other shards than those it was trained on")
    return changed


def environment() -> dict[str, str | None]:
    """The variables that a bit-for-bit resume depends on."""
    return {name: os.environ.get(name) for name in BIT_FOR_BIT}
