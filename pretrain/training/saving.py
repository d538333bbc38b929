"""Saving a run's state: in the step, or in the background while training goes on.

All ranks take part. In the step each copies what it writes to host memory; then it is written by a
thread (safetensors and SHA-256 release Python's lock). Rank 0 commits when it sees the files of all
ranks. No more than one checkpoint is being written at a time.
"""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict

from paddle import nn

from data_pipeline.loading.order import World
from data_pipeline.shards.format import Manifest
from pretrain.training import checkpoint, parallel
from pretrain.training.resume import TrainState, environment
from pretrain.training.settings import TrainingRecipe


class CheckpointSaver:
    """Saves the states of one run. As a context: after it nothing is being written any more."""

    def __init__(
        self,
        objective: nn.Layer,
        optimizer,
        recipe: TrainingRecipe,
        manifest: Manifest,
        world: World,
    ):
        self.objective, self.optimizer, self.recipe = objective, optimizer, recipe
        self.manifest, self.world = manifest, world
        self.folder = checkpoint.folder(recipe.output_dir)
        sharded = recipe.optimizer.sharded and world.size > 1
        self._parts = world.size if sharded else 1  # ranks that write moments
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._stopped = threading.Event()
        self._writing: tuple[Future, ...] = ()

    def __enter__(self) -> "CheckpointSaver":
        return self

    def __exit__(self, *_) -> None:
        # After an error the ranks may not talk any more; what needs no other rank is finished.
        self._stopped.set()
        self._pool.shutdown(wait=True)

    @property
    def failed(self) -> bool:
        """Whether this rank could not write; `wait` raises the error."""
        return any(part.done() and part.exception() for part in self._writing)

    def save(self, state: TrainState) -> None:
        """Save the state, and remove the checkpoints that the recipe does not retain. In the
        background, it returns when all is copied; the checkpoint before has then been written.

        Every rank must call it after the same step. All ranks fail when one does, see `wait`.
        """
        self.wait()
        with parallel.fail_together(self.world):
            taken = self._snapshot(state)
            if self.world.rank == 0:
                checkpoint.begin(self.folder, state.step)
        part = self._pool.submit(self._write_part, taken)
        self._writing = (part, self._pool.submit(self._write_rest, taken, part))
        if self.recipe.checkpoint.async_mode == "disabled":
            self.wait()

    def wait(self) -> None:
        """Wait until the checkpoint that is being written is complete. Every rank must call it.

        Raises:
            UserError: it could not be written, by this rank or another; older ones stay.
        """
        # Rank 0 waits for the files of the others, so all parts come before the rest.
        for part in self._writing:
            with parallel.fail_together(self.world):
                part.result()
        self._writing = ()

    def _snapshot(self, state: TrainState) -> checkpoint.Snapshot:
        first, own = self.world.rank == 0, self.world.rank < self._parts
        return checkpoint.snapshot(
            state.step,
            self.objective.state_dict() if first else {},
            checkpoint.optimizer_tensors(self.objective, self.optimizer) if own else {},
            self._record(state) if first else {},
        )

    def _record(self, state: TrainState) -> dict:
        return {
            "counters": state.counters,
            "loss_scale": asdict(state.scale),
            "order": asdict(state.order),
            "data_fingerprint": self.manifest.fingerprint,
            "vocab_sha256": self.manifest.vocab_sha256,
            "identity": self.objective.identity,
            "recipe": self.recipe.model_dump(mode="json"),
            "environment": environment(self.world),
        }

    def _write_part(self, taken: checkpoint.Snapshot) -> None:
        if self.world.rank < self._parts:
            checkpoint.write_moments(self.folder, taken, self.world.rank, self._parts)

    def _write_rest(self, taken: checkpoint.Snapshot, part: Future) -> None:
        if self.world.rank > 0 or part.exception():
            return
        if checkpoint.wait_for_moments(self.folder, taken.step, self._parts, self._stopped):
            checkpoint.commit(self.folder, taken, self._parts)
            settings = self.recipe.checkpoint
            checkpoint.retain(self.folder, settings.keep_last, settings.keep_every)
