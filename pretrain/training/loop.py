"""The training loop that distillation and masked-language-model pre-training share."""

import contextlib
import shutil
import signal
from pathlib import Path

from paddle import nn

from data_pipeline.base import recipes
from data_pipeline.base.errors import UserError
from data_pipeline.base.files import write_json
from data_pipeline.loading import order
from data_pipeline.loading.loader import Loader
from data_pipeline.shards.format import VOCABULARY, Manifest
from pretrain.encoders import linear
from pretrain.recipe import Run
from pretrain.training import checkpoint, flops, parallel, resume
from pretrain.training import optimizer as optimize
from pretrain.training.hang import HangWatch
from pretrain.training.metrics import Known, Log
from pretrain.training.step import Trainer, train_step

SAVED_AND_STOPPED = 75  # EX_TEMPFAIL: stopped by SIGTERM after saving; start again to go on
NOT_FINITE = 76  # too many steps in a row had a non-finite gradient
FINISHED = "finished.json"


def fit(
    objective: nn.Layer,
    recipe: Run,
    manifest: Manifest,
    world: order.World,
    constants: dict[str, float] | None = None,
) -> int:
    """Train from the newest checkpoint, or from the start, to the last step; the exit code.

    constants: numbers that every record repeats.
    """
    with resume.claim(recipe.output_dir) if world.rank == 0 else contextlib.nullcontext():
        return _fit(objective, recipe, manifest, world, constants or {})


def _fit(objective: nn.Layer, recipe: Run, manifest, world, constants) -> int:
    linear.replace_linears(objective)
    inner = optimize.build_optimizer(objective, recipe.optimizer)
    trained = inner._parameter_list  # all; sharded, this rank's optimiser is left with some
    model, optimizer = parallel.wrap(objective, inner, world, recipe.optimizer.sharded)
    run = resume.take_up(objective, inner, recipe, manifest, world)
    trainer = Trainer(recipe, objective, model, optimizer, trained, world.rank, world.size)
    loader = _loader(recipe, world, run.order)
    if world.rank == 0:
        _prepare_directory(recipe, world, manifest, loader)
    watch = HangWatch(recipe.safety.hang_seconds, world.rank, parallel.neighbours(world))
    parallel.barrier(world)  # all ranks measure at once, as they will compute
    with optimize.autocast(recipe.precision):
        ceiling = flops.matmul_ceiling(objective.encoder.config.hidden_size)
    reduce_seconds = parallel.all_reduce_seconds(trained, world)
    log = Log(recipe, world, run.step, Known(objective.cost, ceiling, reduce_seconds, constants))
    with log, watch, _StopRequest() as stop:
        steps = iter(loader)
        code = _reason_to_end(recipe, run, asked=False)  # killed right after its last step?
        while code is None:
            watch.touch()
            with log.clock.part("data"):
                batches = next(steps)
            rate = optimize.learning_rate(recipe.optimizer, run.updates)
            result = train_step(trainer, batches, run.step, rate, run.scale.value, log.clock)
            run.after(result.finite, loader.state)
            log.add(result, batches, rate, run)
            # One rank may be told to stop without the others: all end after the same step.
            code = _reason_to_end(recipe, run, parallel.any_rank(stop.asked, world))
            due = code is not None or run.step % recipe.checkpoint.every_steps == 0
            if due and code != NOT_FINITE:
                log.flush(run)
                resume.keep(objective, inner, recipe, manifest, world, run)
        parallel.barrier(world)  # a rank that ended would take those with it that still save
    return _last_words(code, recipe, world, run)


def is_finished(recipe: Run) -> bool:
    """Whether the run has reached its last step."""
    return (Path(recipe.output_dir) / FINISHED).exists() and any(
        found.step == recipe.optimizer.total_steps
        for found in checkpoint.complete(resume.folder(recipe))
    )


def _reason_to_end(recipe: Run, run: resume.Standing, asked: bool) -> int | None:
    """The exit code, or None to go on."""
    if run.skipped_in_a_row >= recipe.safety.max_skipped_steps:
        return NOT_FINITE
    if run.step >= recipe.optimizer.total_steps:
        return 0
    return SAVED_AND_STOPPED if asked else None


class _StopRequest:
    """SIGTERM, or the first Ctrl-C, asks the run to save and stop at the end of the step."""

    def __init__(self):
        self.asked = False

    def __enter__(self) -> "_StopRequest":
        numbers = (signal.SIGTERM, signal.SIGINT)
        self._before = {number: signal.signal(number, self._ask) for number in numbers}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, *_) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl-C does not wait


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


def _last_words(code: int, recipe: Run, world: order.World, run: resume.Standing) -> int:
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
        print(f"{where}: saved at step {run.step} and stopped; the same command goes on")
    else:
        write_json(where / FINISHED, run.counters)
        print(f"{where}: finished after {run.step} steps")
    return code
