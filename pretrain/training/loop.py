"""The training loop that distillation and masked-language-model pre-training share."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from paddle import nn

from data_pipeline.base import recipes
from data_pipeline.base.errors import UserError
from data_pipeline.base.exits import NOT_FINITE, SAVED_AND_STOPPED
from data_pipeline.base.files import write_json
from data_pipeline.loading import order
from data_pipeline.loading.holdout import holdout_batches, split
from data_pipeline.loading.loader import Batch, Loader
from data_pipeline.loading.shared import Node
from data_pipeline.shards.format import VOCABULARY, Manifest
from data_pipeline.text import tokenizer, vocab
from pretrain.encoders import cpu_layers
from pretrain.encoders.cpu import fast_cpu
from pretrain.training import checkpoint, flops, parallel, precision, resume
from pretrain.training import optimizer as optimize
from pretrain.training.finished import DATA_SUMMARY, mark_finished
from pretrain.training.hang import HangWatch
from pretrain.training.holdout import holdout_loss
from pretrain.training.metrics import LogContext, MetricsLog
from pretrain.training.resume import TrainState
from pretrain.training.saving import CheckpointSaver
from pretrain.training.settings import TrainingRecipe
from pretrain.training.step import (
    ReadyStep,
    Trainer,
    clip,
    forward_backward,
    prepare_step,
    update,
)

R = TypeVar("R", bound=TrainingRecipe)


def fit(
    objective: nn.Layer,
    recipe: R,
    manifest: Manifest,
    world: order.World,
    finish: Callable[[nn.Layer, R], None] | None = None,
) -> int:
    """Train from the newest checkpoint, or from the start, to the last step; the exit code.

    finish: called on rank 0 after the last step.
    """
    with contextlib.ExitStack() as stack:
        with parallel.fail_together(world):
            if world.rank == 0:
                stack.enter_context(resume.lock(recipe.output_dir))
        stack.enter_context(fast_cpu())
        session = open_session(objective, recipe, manifest, world)
        stack.callback(session.loader.close)  # after all ranks have left the loop
        state = session.state
        with (
            contextlib.closing(iter(session.loader)) as steps,
            session.log as log,
            session.watch as watch,
            session.saver as saver,
            StopRequest() as stop,
        ):
            code = reason_to_end(recipe, state, stop=False)  # killed right after its last step?
            following = fetch(session, steps, state.step, log) if code is None else None
            while code is None:
                watch.touch()
                assert following is not None  # no step is due after the last
                ready, position = following
                rate, scale = optimize.learning_rate(recipe.optimizer, state.updates), state.scale
                terms = forward_backward(session.trainer, ready, scale.value, log.timer)
                vote = stop.asked or saver.failed if votes(recipe, world, state.step) else None
                numbers = clip(session.trainer, scale.value, log.timer, vote)
                # The next teacher pass is queued behind the numbers that `update` waits for, so the
                # device has work while the host reads them and queues the update.
                if state.step + 1 < recipe.optimizer.total_steps:
                    following = fetch(session, steps, state.step + 1, log)
                result = update(session.trainer, terms, numbers, rate, log.timer)
                state = state.after(result.finite, position)
                holdout = measure_holdout(session, state)
                log.add(result, ready.batches, rate, state, holdout)
                # One rank may be told to stop, or be unable to write, without the others: all end
                # after the same step.
                code = reason_to_end(recipe, state, result.stop)
                due = code is not None or state.step % recipe.checkpoint.every_steps == 0
                if due and code != NOT_FINITE:
                    log.flush(state)
                    saver.save(state)
            saver.wait()
        with parallel.fail_together(world):
            if code == 0 and world.rank == 0:
                if finish:
                    finish(objective, recipe)
                mark_finished(recipe, state.counters)
    report_end(code, recipe, world, state)
    return code


@dataclass(frozen=True)
class Session:
    """What one start of a run works with."""

    trainer: Trainer
    saver: CheckpointSaver
    state: TrainState
    loader: Loader
    holdout: list[Batch]
    log: MetricsLog
    watch: HangWatch


def open_session(
    objective: nn.Layer, recipe: TrainingRecipe, manifest: Manifest, world: order.World
) -> Session:
    """Optimiser, data and log, as the newest checkpoint left them or from the start."""
    cpu_layers.replace_layers(objective)
    adam = optimize.build_optimizer(objective, recipe.optimizer)
    trained = adam._parameter_list  # all; sharded, this rank's optimiser is left with some
    model, optimizer = parallel.wrap(objective, adam, world, recipe.optimizer.sharded)
    state = resume.restore(objective, adam, recipe, manifest, world)
    trainer = Trainer(recipe, objective, model, optimizer, trained, world)
    node = parallel.node_of(world) if recipe.data.one_reader_per_node else None
    with parallel.fail_together(world):
        group_size = recipe.batch.relation_group_size
        held = split(recipe.data.shards, manifest, recipe.data.holdout_samples, group_size)
        loader = open_loader(recipe, world, state.order, held.trained_samples, node)
        ranks = recipe.ranks_per_group(world.size)
        holdout = holdout_batches(held, group_size, ranks, world.rank)
    with parallel.fail_together(world):
        if world.rank == 0:
            prepare_directory(recipe, world, manifest, loader)
    watch = HangWatch(
        recipe.safety.hang_seconds,
        world.rank,
        parallel.neighbours(world),
        recipe.safety.hang_factor,
    )
    parallel.barrier(world)  # all ranks measure at once, as they will compute
    dtype = precision.effective_dtype(recipe.precision)
    ceiling = flops.matmul_ceiling(objective.encoder.config.hidden_size, dtype)
    reduce_seconds = parallel.all_reduce_seconds(trained, world)
    context = LogContext(objective.cost, ceiling, reduce_seconds, objective.constants)
    log = MetricsLog(recipe, world, state.step, context)
    saver = CheckpointSaver(objective, adam, recipe, manifest, world)
    return Session(trainer, saver, state, loader, holdout, log, watch)


def fetch(
    session: Session, steps: Iterator, step: int, log: MetricsLog
) -> tuple[ReadyStep, order.State]:
    """(the inputs of step number `step`, the position in the data after it)."""
    with log.timer.part("data", on_host=True):
        batches = next(steps)
    return prepare_step(session.trainer, batches, step, log.timer), session.loader.state


def measure_holdout(session: Session, state: TrainState) -> dict[str, float]:
    """The loss on the holdout where it is due after this step; nothing otherwise."""
    recipe = session.trainer.recipe
    due = state.step % recipe.monitor.holdout_every_steps == 0
    if not session.holdout or not (due or state.step == recipe.optimizer.total_steps):
        return {}
    trainer = session.trainer
    return holdout_loss(trainer.objective, session.holdout, recipe, trainer.world)


def votes(recipe: TrainingRecipe, world: order.World, step: int) -> bool:
    """Whether the ranks tell each other in the step after `step` others if one wants to stop. One
    rank alone has nobody to ask."""
    return world.size == 1 or (step + 1) % recipe.safety.stop_vote_steps == 0


def reason_to_end(recipe: TrainingRecipe, state: TrainState, stop: bool) -> int | None:
    """The exit code, or None to go on."""
    if state.skipped_in_a_row >= recipe.safety.max_skipped_steps:
        return NOT_FINITE
    if state.step >= recipe.optimizer.total_steps:
        return 0
    return SAVED_AND_STOPPED if stop else None


class StopRequest:
    """SIGTERM, or the first Ctrl-C, asks the run to save and stop at the end of the step."""

    def __init__(self):
        self.asked = False

    def __enter__(self) -> "StopRequest":
        numbers = (signal.SIGTERM, signal.SIGINT)
        self._before = {number: signal.signal(number, self._ask) for number in numbers}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, *_) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl-C does not wait


def open_loader(
    recipe: TrainingRecipe,
    world: order.World,
    state: order.State,
    samples: int,
    node: Node | None = None,
) -> Loader:
    """The steps of a run from `state` on, over the first `samples` of the shards."""
    settings = order.OrderSettings(
        seed=recipe.seed,
        relation_group_size=recipe.batch.relation_group_size,
        global_batch_size=recipe.batch.global_batch_size,
        window_samples=recipe.window_samples(),
        block_samples=recipe.data.block_samples,
    )
    return Loader(
        recipe.data.shards,
        settings,
        world,
        state,
        recipe.batch.groups_per_micro_batch,
        workers=recipe.data.workers,
        samples=samples,
        node=node,
    )


def prepare_directory(
    recipe: TrainingRecipe, world: order.World, manifest: Manifest, loader: Loader
) -> None:
    """Write recipe, tokenizer and a summary of the data to `output_dir`; print what a step is."""
    recipes.save(recipe, recipe.output_dir / "recipe.resolved.yaml")
    tokens = vocab.read(recipe.data.shards / VOCABULARY)
    tokenizer.write(recipe.output_dir, tokens, manifest.lower_case)
    write_json(recipe.output_dir / DATA_SUMMARY, manifest.summary())
    share = recipe.batch.global_batch_size // world.size
    group = recipe.batch.groups_per_micro_batch * recipe.batch.relation_group_size
    micro = min(share, group)  # less than a group where several ranks share one
    dtype = precision.effective_dtype(recipe.precision)
    if dtype != recipe.precision.dtype:
        print(f"precision: {recipe.precision.dtype} has no effect on a CPU; running {dtype}")
    print(
        f"{world.size} rank(s) x {micro} samples x {share // micro} accumulation step(s) = "
        f"global batch {recipe.batch.global_batch_size}, in relation groups of "
        f"{recipe.batch.relation_group_size}; {loader.steps_per_epoch} steps an epoch over "
        f"{loader.samples:,} samples",
        flush=True,
    )


def report_end(code: int, recipe: TrainingRecipe, world: order.World, state: TrainState) -> None:
    """Print, on rank 0, how the run has ended.

    Raises:
        UserError: too many steps in a row were not finite; on all ranks.
    """
    where = recipe.output_dir
    if code == NOT_FINITE:
        newest = checkpoint.complete(checkpoint.folder(where))
        raise UserError(
            f"{where}: {recipe.safety.max_skipped_steps} steps in a row had a non-finite gradient; "
            "the weights are those from before. Look at the data of these steps, or start a new "
            "run with a lower rate"
            + (f" from the newest checkpoint: --init_from {newest[-1].path}" if newest else ":")
            + f" --output_dir {where}-2 "
            f"--optimizer.learning_rate {recipe.optimizer.learning_rate / 2:g}",
            exit_code=NOT_FINITE,
        )
    if world.rank == 0 and code == SAVED_AND_STOPPED:
        print(f"{where}: saved at step {state.step} and stopped; the same command resumes it")
    elif world.rank == 0:
        print(f"{where}: finished after {state.step} steps")
