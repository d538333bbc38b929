"""One training step, in four parts: prepare the inputs, forward and backward, clip, update."""

import contextlib
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import paddle
from paddle import Tensor, nn

from data_pipeline.loading.loader import Batch
from data_pipeline.loading.order import World
from pretrain.encoders import device
from pretrain.training import optimizer as optimize
from pretrain.training import parallel, precision
from pretrain.training.settings import TrainingRecipe


class Objective(Protocol):
    """What a layer offers to be trained. Nothing is left on it between calls."""

    encoder: nn.Layer
    """The encoder that is trained."""
    weighted: bool
    """Whether micro-batches count by the weight that `sample` gives; otherwise all count alike."""
    cost: Callable[[int, int], int] | None
    """Floating-point operations of a batch of (tokens, padded length), where known."""
    constants: dict[str, float]
    """Numbers that every record of the run repeats."""

    identity: dict[str, str]
    """Digests by name of what a resumed run must find unchanged; on rank 0."""

    def sample(self, batch: Batch, random: np.random.Generator) -> tuple[list[np.ndarray], int]:
        """(inputs of a micro-batch, its weight); on the host."""

    def targets(self, *inputs: Tensor) -> list[Tensor]:
        """What the inputs are to be compared with, without gradients: a teacher's states."""

    def forward(self, *inputs_and_targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """(mean loss of the micro-batch, its parts by name, detached)."""


@dataclass
class Trainer:
    """What a step works on. `model` is `objective`, wrapped for data parallelism where needed."""

    recipe: TrainingRecipe
    objective: nn.Layer
    model: nn.Layer
    optimizer: paddle.optimizer.Optimizer
    parameters: list[Tensor]
    world: World


@dataclass(frozen=True)
class MicroBatch:
    """Inputs on the device, and what belongs to their place in the global batch."""

    inputs: list[Tensor]
    share: float | Tensor
    """Weight of its mean loss in the loss of this rank."""
    seed: int


@dataclass(frozen=True)
class ReadyStep:
    """A step whose inputs are on the device."""

    step: int
    batches: list[Batch]
    micro_batches: list[MicroBatch]
    first_targets: list[Tensor]
    """Targets of the first micro-batch; the others are computed when their turn comes."""


@dataclass(frozen=True)
class StepResult:
    """What a step leaves for the log. Tensors stay on the device until someone reads them."""

    terms: dict[str, Tensor]
    gradient_norm: float
    finite: bool
    stop: bool
    """Whether some rank has been asked to stop."""


def prepare_step(
    trainer: Trainer, batches: list[Batch], step: int, timer: "StepTimer"
) -> ReadyStep:
    """Move this rank's micro-batches of step number `step` (from 0) to the device, and queue the
    teacher's pass over the first one."""
    objective, world = trainer.objective, trainer.world
    # Randomness depends on the place in the global batch, not on the rank or earlier steps.
    places = [number * world.size + world.rank for number in range(len(batches))]
    seeds = [micro_batch_seed(trainer.recipe.seed, step, place) for place in places]
    samples = [
        objective.sample(batch, np.random.default_rng(seed))
        for batch, seed in zip(batches, seeds, strict=True)
    ]
    shares = shares_of([weight for _, weight in samples], objective.weighted, world)
    micro_batches = [
        MicroBatch([device.to_device(array) for array in arrays], share, seed)
        for (arrays, _), share, seed in zip(samples, shares, seeds, strict=True)
    ]
    with timer.part("teacher"):
        first = objective.targets(*micro_batches[0].inputs)
    return ReadyStep(step, batches, micro_batches, first)


def shares_of(weights: list[int], weighted: bool, world: World) -> list[float | Tensor]:
    """Shares of this rank's micro-batches, such that the mean over ranks of the sum over
    micro-batches of share * mean loss is the mean over all that the global batch counts."""
    if not weighted:
        return [1 / len(weights)] * len(weights)
    if world.size == 1:
        return [weight / sum(weights) for weight in weights]
    total = parallel.sum_over_ranks(sum(weights))
    return [weight * world.size / total for weight in weights]


def forward_backward(
    trainer: Trainer, ready: ReadyStep, scale: float, timer: "StepTimer"
) -> dict[str, Tensor]:
    """Accumulate the gradients of a step; the loss and its parts, summed over micro-batches.

    The loss of a step is the mean over all that the global batch counts: relation groups, or hidden
    tokens.
    """
    terms: dict[str, Tensor] = defaultdict(lambda: paddle.zeros([]))
    objective, model = trainer.objective, trainer.model
    for number, micro in enumerate(ready.micro_batches):
        targets = ready.first_targets
        if number > 0:
            with timer.part("teacher"):
                targets = objective.targets(*micro.inputs)
        paddle.seed(micro.seed)
        last = number == len(ready.micro_batches) - 1
        with contextlib.nullcontext() if last else no_sync(model):
            with timer.part("student"), precision.autocast(trainer.recipe.precision):
                loss, parts = model(*micro.inputs, *targets)
            with timer.part("backward"):
                # The last one all-reduces the gradients of all.
                (loss * (micro.share * scale)).backward()
        for name, value in parts.items():
            terms[name] += value * micro.share
    return dict(terms)


def clip(
    trainer: Trainer, scale: float, timer: "StepTimer", stop: bool | None = None
) -> device.HostCopy:
    """Take the loss scale out of the gradients and clip them.

    stop: in a step in which the ranks vote, whether this one wants to stop.

    Returns [their norm from before, whether a rank wants to stop], on the way to the host: the only
    numbers of a step that the host reads from the device. It needs them to leave out an update that
    is not finite: outside static graphs Paddle's AdamW cannot be told on the device to skip one
    (3.3.1 passes no `found_inf`), and selecting between old and new weights and moments would take
    a copy of all of them, and more time to queue than the read costs.
    """
    with timer.part("update"):
        optimize.unscale(trainer.parameters, scale)
        norm = optimize.clip_gradients(trainer.parameters, trainer.recipe.optimizer.clip)
        return device.HostCopy(parallel.with_flag(norm, stop, trainer.world))


def update(
    trainer: Trainer,
    terms: dict[str, Tensor],
    numbers: device.HostCopy,
    rate: float,
    timer: "StepTimer",
) -> StepResult:
    """Update the weights; a non-finite gradient leaves them and the moments as they are.

    terms: of `forward_backward`; numbers: of `clip`.
    """
    with timer.part("update"):
        # After the all-reduce all ranks see the same norm, so they take the same decision.
        norm, any_stop = numbers.tolist()
        finite = math.isfinite(norm)
        if finite:
            trainer.optimizer.set_lr(rate)
            trainer.optimizer.step()
        trainer.optimizer.clear_grad()
    return StepResult(terms, norm, finite, bool(any_stop))


def train_step(
    trainer: Trainer,
    batches: list[Batch],
    step: int,
    rate: float,
    scale: float,
    timer: "StepTimer",
) -> StepResult:
    """The four parts one after the other."""
    ready = prepare_step(trainer, batches, step, timer)
    terms = forward_backward(trainer, ready, scale, timer)
    return update(trainer, terms, clip(trainer, scale, timer), rate, timer)


def micro_batch_seed(seed: int, step: int, place: int) -> int:
    """Seed of a micro-batch: a function of the run's seed, the step and its place in the batch."""
    return int(np.random.SeedSequence([seed, step, place]).generate_state(1)[0])


def no_sync(model: nn.Layer):
    """No all-reduce inside; a model that is not wrapped never does one."""
    return model.no_sync() if hasattr(model, "no_sync") else contextlib.nullcontext()


class StepTimer:
    """Seconds by part of a step: between events of the GPU's stream, or of wall time on a CPU."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = defaultdict(float)
        self._events: list[tuple[str, paddle.device.Event, paddle.device.Event]] = []

    @contextlib.contextmanager
    def part(self, name: str, on_host: bool = False) -> Iterator[None]:
        """Count the time inside towards `name`. on_host: wall time, also with a GPU."""
        if device.on_gpu() and not on_host:
            began, ended = (paddle.device.Event(enable_timing=True) for _ in range(2))
            began.record()
            yield
            ended.record()
            self._events.append((name, began, ended))
            return
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] += time.perf_counter() - start

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds by name; waits for a GPU to reach the newest event."""
        for name, began, ended in self._events:
            ended.synchronize()
            self._seconds[name] += began.elapsed_time(ended) / 1e3
        self._events.clear()
        return dict(self._seconds)
