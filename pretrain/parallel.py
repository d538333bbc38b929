"""The ranks of a run, on Paddle Fleet."""

import os

import paddle
from paddle import nn

from data_pipeline.order import World


def start() -> World:
    """Join the other ranks, as `paddle.distributed.launch` has arranged it; alone without it."""
    size = int(os.environ.get("PADDLE_TRAINERS_NUM", "1"))
    if size == 1:
        return World()
    from paddle.distributed import fleet

    fleet.init(is_collective=True)
    return World(paddle.distributed.get_rank(), size)


def wrap(objective: nn.Layer, optimizer, world: World):
    """(model, optimiser) that average gradients over the ranks."""
    if world.size == 1:
        return objective, optimizer
    from paddle.distributed import fleet

    return fleet.distributed_model(objective), fleet.distributed_optimizer(optimizer)


def any_rank(flag: bool, world: World) -> bool:
    """Whether the flag is up on any rank; every rank must ask, and all get the same answer."""
    if world.size == 1:
        return flag
    tensor = paddle.to_tensor([int(flag)], dtype="int32")
    paddle.distributed.all_reduce(tensor, op=paddle.distributed.ReduceOp.MAX)
    return bool(tensor.item())


def barrier(world: World) -> None:
    """Wait for all ranks."""
    if world.size > 1:
        paddle.distributed.barrier()


def mean_over_ranks(values: dict[str, float], world: World) -> dict[str, float]:
    """The mean of each number over the ranks; every rank must call it with the same names."""
    if world.size == 1 or not values:
        return values
    tensor = paddle.to_tensor([float(values[name]) for name in sorted(values)], dtype="float64")
    paddle.distributed.all_reduce(tensor)
    return dict(zip(sorted(values), (tensor / world.size).tolist(), strict=True))
