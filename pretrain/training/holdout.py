"""The loss on samples that are not trained on, without dropout."""

import numpy as np
import paddle
from paddle import nn

from data_pipeline.loading.loader import Batch
from data_pipeline.loading.order import World
from pretrain.encoders import device
from pretrain.training import parallel, precision
from pretrain.training.settings import TrainingRecipe
from pretrain.training.step import micro_batch_seed


@paddle.no_grad()
def holdout_loss(
    objective: nn.Layer, batches: list[Batch], recipe: TrainingRecipe, world: World
) -> dict[str, float]:
    """Mean loss and its parts over all `batches`, as `holdout/NAME`; ranks share them.

    What is random in them (which tokens are hidden) is the same every time. Every rank must call
    it.
    """
    sums: dict[str, float] = {"weight": 0.0}
    objective.eval()
    ranks = recipe.ranks_per_group(world.size)  # that share a group, and so a batch
    for number, batch in list(enumerate(batches))[world.rank // ranks :: world.size // ranks]:
        random = np.random.default_rng(micro_batch_seed(recipe.seed, 0, number))
        arrays, weight = objective.sample(batch, random)
        inputs = [device.to_device(array) for array in arrays]
        targets = objective.targets(*inputs)
        with precision.autocast(recipe.precision):
            _, parts = objective(*inputs, *targets)
        sums["weight"] += weight
        for name, value in parts.items():
            sums[name] = sums.get(name, 0.0) + float(value) * weight
    objective.train()
    return parallel.weighted_mean(sums, world)
