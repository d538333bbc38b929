"""One training step."""

import contextlib
import math
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import paddle
from paddle import Tensor, nn

from data_pipeline.loading.loader import Batch
from pretrain.training import optimizer as optimize
from pretrain.training.settings import TrainingRecipe


@dataclass
class Trainer:
    """What a step works on. `model` is `objective`, wrapped for data parallelism where needed."""

    recipe: TrainingRecipe
    objective: nn.Layer
    model: nn.Layer
    optimizer: paddle.optimizer.Optimizer
    parameters: list[Tensor]
    rank: int
    world_size: int


@dataclass(frozen=True)
class StepResult:
    """What a step leaves for the log. Tensors stay on the device until someone reads them."""

    terms: dict[str, Tensor]
    gradient_norm: float
    finite: bool


def train_step(
    trainer: Trainer, batches: list[Batch], step: int, rate: float, scale: float, timer: "StepTimer"
) -> StepResult:
    """Forward and backward over this rank's micro-batches, then one update.

    The loss of a step is the mean over all relation groups of the global batch: micro-batches are
    of equal size, and so are the ranks' shares. A non-finite gradient leaves the weights alone.
    """
    recipe, objective, model = trainer.recipe, trainer.objective, trainer.model
    terms: dict[str, Tensor] = defaultdict(lambda: paddle.zeros([]))
    for number, batch in enumerate(batches):
        # Randomness depends on the place in the global batch, not on the rank or earlier steps.
        seed = micro_batch_seed(recipe.seed, step, number * trainer.world_size + trainer.rank)
        paddle.seed(seed)
        last = number == len(batches) - 1
        with optimize.autocast(recipe.precision):
            with timer.part("teacher"):
                inputs = objective.prepare(batch, np.random.default_rng(seed))
            with contextlib.nullcontext() if last else no_sync(model):
                with timer.part("student"):
                    loss, parts = model(*inputs)
                    loss = loss * (scale / len(batches))
                with timer.part("backward"):
                    loss.backward()  # the last one all-reduces the gradients of all
        for name, value in parts.items():
            terms[name] += value / len(batches)
    with timer.part("update"):
        optimize.unscale(trainer.parameters, scale)
        # After the all-reduce all ranks see the same norm, so they take the same decision.
        norm = float(optimize.clip_gradients(trainer.parameters, recipe.optimizer.clip))
        if math.isfinite(norm):
            trainer.optimizer.set_lr(rate)
            trainer.optimizer.step()
        trainer.optimizer.clear_grad()
    return StepResult(dict(terms), norm, math.isfinite(norm))


def micro_batch_seed(seed: int, step: int, place: int) -> int:
    """Seed of a micro-batch: a function of the run's seed, the step and its place in the batch."""
    return int(np.random.SeedSequence([seed, step, place]).generate_state(1)[0])


def no_sync(model: nn.Layer):
    """No all-reduce inside; a model that is not wrapped never does one."""
    return model.no_sync() if hasattr(model, "no_sync") else contextlib.nullcontext()


class StepTimer:
    """Wall seconds by part of a step. On a GPU, work queued by one part may be waited for in a
    later one; the sum is right, the split is approximate."""

    def __init__(self):
        self.seconds: dict[str, float] = defaultdict(float)

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the time inside towards `name`."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - began
