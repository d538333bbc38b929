"""The training loop that distillation and masked-language-model pre-training share."""

import faulthandler
import os
import resource
import shutil
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
from paddle import nn

from data_pipeline import order
from data_pipeline.base import recipes
from data_pipeline.base.errors import UserError
from data_pipeline.base.files import write_json
from data_pipeline.loader import Batch, Loader
from data_pipeline.shards import VOCABULARY, Manifest
from pretrain import checkpoint, optimize, parallel
from pretrain.monitor import Monitor
from pretrain.recipe import Run
from pretrain.step import Clock, StepResult, Trainer, train_step

SAVED_AND_STOPPED = 75  # EX_TEMPFAIL: stopped by SIGTERM after saving; start again to go on
NOT_FINITE = 76  # too many steps in a row had a non-finite gradient

# A resumed run may differ in these and still be the same run.
FREE_TO_CHANGE = (
    *("output_dir", "data.shards", "data.workers", "batch.groups_per_micro_batch"),
    *("checkpoint", "monitor", "safety"),
)
BIT_FOR_BIT = ("OMP_NUM_THREADS", "MKL_DEBUG_CPU_TYPE")  # they decide the order of float sums

FINISHED = "finished.json"


def fit(objective: nn.Layer, recipe: Run, manifest: Manifest, world: order.World) -> int:
    """Train from the newest checkpoint, or from the start, to the last step; the exit code."""
    folder = recipe.output_dir / "checkpoints"
    inner = optimize.build_optimizer(objective, recipe.optimizer, recipe.precision.level == "O2")
    found = checkpoint.newest(folder, say=print if world.rank == 0 else _silent)
    saved = _resume(found, objective, inner, recipe, manifest)
    model, optimizer = parallel.wrap(objective, inner, world)
    trainer = Trainer(
        recipe, objective, model, optimizer, inner._parameter_list, world.rank, world.size
    )
    progress = Counters(**saved["counters"]) if saved else Counters()
    scale = optimize.LossScale(**saved["loss_scale"]) if saved else None
    scale = scale or optimize.initial_scale(recipe.precision)
    state = order.State(**saved["order"]) if saved else order.State()
    loader = _loader(recipe, world, state)
    log = Log(recipe, world, progress.step)
    stop = _StopRequest()
    if world.rank == 0:
        _prepare_directory(recipe, world, manifest, loader)
    steps = iter(loader)
    code = _reason_to_end(recipe, progress, asked=False)  # killed right after its last step?
    while code is None:
        # A rank that hangs holds up all others; each then prints its stacks and ends.
        _watch(recipe.safety.hang_seconds)
        with log.clock.part("data"):
            batches = next(steps)
        rate = optimize.learning_rate(recipe.optimizer, progress.updates)
        result = train_step(trainer, batches, progress.step, rate, scale.value, log.clock)
        scale = scale.after(result.finite)
        progress.count(result.finite)
        log.add(result, batches, rate, progress)
        # One rank may be told to stop without the others: they agree, and end after the same step.
        code = _reason_to_end(recipe, progress, parallel.any_rank(stop.asked, world))
        due = code is not None or progress.step % recipe.checkpoint.every_steps == 0
        if due and code != NOT_FINITE:
            log.flush(progress)
            if world.rank == 0:
                now = _state(recipe, manifest, world, progress, scale, loader.state)
                checkpoint.save(folder, progress.step, objective, inner, now)
                checkpoint.retain(folder, recipe.checkpoint.keep_last, recipe.checkpoint.keep_every)
    log.close()
    parallel.barrier(world)  # a rank that ended would take those with it that still save
    faulthandler.cancel_dump_traceback_later()
    return _last_words(code, recipe, world, progress)


def _watch(seconds: float) -> None:
    """End this process with the stacks of its threads, unless called again within `seconds`."""
    faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__)


def _reason_to_end(recipe: Run, counters: "Counters", asked: bool) -> int | None:
    """The exit code, or None to go on."""
    if counters.skipped_in_a_row >= recipe.safety.max_skipped_steps:
        return NOT_FINITE
    if counters.step >= recipe.optimizer.total_steps:
        return 0
    return SAVED_AND_STOPPED if asked else None


class Counters:
    """How far a run is, in numbers that a checkpoint keeps."""

    def __init__(self, step: int = 0, updates: int = 0, skipped_in_a_row: int = 0):
        self.step, self.updates, self.skipped_in_a_row = step, updates, skipped_in_a_row

    def count(self, finite: bool) -> None:
        """One more step; only a finite one is an update, and only updates move the schedule."""
        self.step += 1
        self.updates += int(finite)
        self.skipped_in_a_row = 0 if finite else self.skipped_in_a_row + 1


class Log:
    """Sums over the steps between two records; ranks talk only when a record is due."""

    def __init__(self, recipe: Run, world: order.World, step: int):
        self.world, self.every = world, recipe.monitor.log_every_steps
        self.samples_per_step = recipe.batch.global_batch_size
        self.monitor = None
        if world.rank == 0:
            recipe.output_dir.mkdir(parents=True, exist_ok=True)
            self.monitor = Monitor(recipe.output_dir, step, recipe.optimizer.total_steps)
        self._reset()

    def _reset(self) -> None:
        self.clock, self.began = Clock(), time.perf_counter()
        self.steps, self.terms = 0, {}
        self.tokens = self.cells = 0
        self.latest: dict[str, float] = {}

    def add(self, result: StepResult, batches: list[Batch], rate: float, counters: Counters):
        """Count one step, and write a record when it is due."""
        self.steps += 1
        for name, value in result.terms.items():
            self.terms[name] = self.terms.get(name, 0.0) + value
        self.tokens += sum(int(batch.attention_mask.sum()) for batch in batches)
        self.cells += sum(batch.attention_mask.size for batch in batches)
        self.latest = {
            "optim/lr": rate,
            "optim/grad_norm": result.gradient_norm,
            "optim/skipped": counters.step - counters.updates,
        }
        if self.monitor:
            self.monitor.progress.add(1)
        if counters.step % self.every == 0:
            self.flush(counters)

    def flush(self, counters: Counters) -> None:
        """Write what has been summed since the last record, if anything."""
        if self.steps == 0:
            return
        own = {f"loss/{name}": float(value) / self.steps for name, value in self.terms.items()}
        own |= {"tokens": self.tokens, "cells": self.cells}
        mean = parallel.mean_over_ranks(own, self.world)
        seconds = time.perf_counter() - self.began
        tokens, cells = mean.pop("tokens"), mean.pop("cells")
        record = {
            **mean,
            **self.latest,
            "speed/sequences_per_s": self.steps * self.samples_per_step / seconds,
            "speed/tokens_per_s": tokens * self.world.size / seconds,
            "data/padding_share": 1 - tokens / cells,
            **{f"time/{k}_share": v / seconds for k, v in self.clock.seconds.items()},
            "memory/peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        record["time/data_wait_share"] = record.pop("time/data_share")
        if self.monitor:
            # A loss that is not finite has no place in JSON; the skipped count speaks for it.
            finite = {k: v for k, v in record.items() if np.isfinite(v)}
            self.monitor.write({"step": counters.step, **finite})
            self.monitor.progress.add(
                0, loss=record["loss/total"], seq_s=record["speed/sequences_per_s"]
            )
        self._reset()

    def close(self) -> None:
        """Flush the files."""
        if self.monitor:
            self.monitor.close()


class _StopRequest:
    """SIGTERM asks the run to save and stop at the end of the step."""

    def __init__(self):
        self.asked = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def _ask(self, *_) -> None:
        self.asked = True


def _silent(_: str) -> None:
    pass


def _loader(recipe: Run, world: order.World, state: order.State) -> Loader:
    settings = order.OrderSettings(
        seed=recipe.seed,
        relation_group_size=recipe.batch.relation_group_size,
        global_batch_size=recipe.batch.global_batch_size,
        window_samples=recipe.data.window_samples,
        block_samples=recipe.data.block_samples,
    )
    return Loader(
        recipe.data.shards,
        settings,
        world,
        state,
        recipe.batch.groups_per_micro_batch,
        workers=recipe.data.workers,
    )


def _state(recipe, manifest, world, counters, scale, position) -> dict:
    return {
        "counters": vars(counters),
        "loss_scale": asdict(scale),
        "order": asdict(position),
        "data_fingerprint": manifest.fingerprint,
        "vocab_sha256": manifest.vocab_sha256,
        "recipe": recipe.model_dump(mode="json"),
        "world_size": world.size,
        "environment": {name: os.environ.get(name) for name in BIT_FOR_BIT},
    }


def _resume(found, objective, optimizer, recipe: Run, manifest: Manifest) -> dict | None:
    """The state of `found`, its weights loaded; UserError when it belongs to another run."""
    if found is None:
        return None
    saved = found.state()
    changed = [
        text
        for text in recipes.differences(saved["recipe"], recipe.model_dump(mode="json"))
        if not text.startswith(FREE_TO_CHANGE)
    ]
    if saved["vocab_sha256"] != manifest.vocab_sha256:
        changed.append(f"{recipe.data.shards}/{VOCABULARY}: another vocabulary")
    elif saved["data_fingerprint"] != manifest.fingerprint:
        changed.append(f"{recipe.data.shards}: other shards than those it was trained on")
    if changed:
        raise UserError(
            f"{found.path} cannot be resumed by this recipe:\n"
            + "\n".join(f"  {text}" for text in changed)
            + "\n  Undo the change, or give the run another output_dir."
        )
    environment = {name: os.environ.get(name) for name in BIT_FOR_BIT}
    for text in recipes.differences(saved["environment"], environment):
        print(f"{found.path}: {text}; the last bits of sums will differ from before")
    return checkpoint.load(found, objective, optimizer)


def _prepare_directory(recipe: Run, world: order.World, manifest: Manifest, loader: Loader) -> None:
    recipes.save(recipe, recipe.output_dir / "recipe.resolved.yaml")
    shutil.copyfile(recipe.data.shards / VOCABULARY, recipe.output_dir / VOCABULARY)
    micro = recipe.batch.groups_per_micro_batch * recipe.batch.relation_group_size
    share = recipe.batch.global_batch_size // world.size
    said = optimize.effective_dtype(recipe.precision)
    if said != recipe.precision.dtype:
        print(f"precision: {recipe.precision.dtype} has no effect on a CPU; running {said}")
    print(
        f"{world.size} rank(s) x {micro} samples x {share // micro} accumulation step(s) = "
        f"global batch {recipe.batch.global_batch_size}, in relation groups of "
        f"{recipe.batch.relation_group_size}; {loader.steps_per_epoch} steps an epoch over "
        f"{manifest.samples:,} samples",
        flush=True,
    )


def _last_words(code: int, recipe: Run, world: order.World, counters: Counters) -> int:
    if world.rank != 0:
        return code
    where = recipe.output_dir
    if code == NOT_FINITE:
        raise UserError(
            f"{where}: {recipe.safety.max_skipped_steps} steps in a row had a non-finite gradient; "
            "the weights are those from before. A lower learning rate, or a look at the data, "
            "would help; the newest checkpoint is whole",
            exit_code=NOT_FINITE,
        )
    if code == SAVED_AND_STOPPED:
        print(f"{where}: saved at step {counters.step} and stopped; the same command goes on")
    else:
        write_json(where / FINISHED, vars(counters))
        print(f"{where}: finished after {counters.step} steps")
    return code


def is_finished(recipe: Run) -> bool:
    """Whether the run has reached its last step."""
    return (Path(recipe.output_dir) / FINISHED).exists() and any(
        found.step == recipe.optimizer.total_steps
        for found in checkpoint.complete(recipe.output_dir / "checkpoints")
    )
