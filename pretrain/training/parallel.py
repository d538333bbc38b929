"""The ranks of a run, on Paddle Fleet."""

import contextlib
import hashlib
import os
import secrets
import socket
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import paddle
from paddle import Tensor, nn

from data_pipeline.base.errors import UserError
from data_pipeline.loading.order import World
from data_pipeline.loading.shared import Node
from pretrain.objectives.span import RankGroup
from pretrain.training.world import current

FLEET_LOG_LEVEL = "WARNING"  # at INFO it describes groups and degrees that nobody has asked for


def join(sharded: bool = False) -> World:
    """Meet the other ranks, as `paddle.distributed.launch` has arranged it, once a process; alone
    without it.

    sharded: optimiser state is going to be; see `wrap`.
    """
    world = current()
    if world.size == 1 or paddle.distributed.is_initialized():
        return world
    from paddle.distributed import fleet
    from paddle.distributed.fleet.utils import log_util

    log_util.set_log_level(FLEET_LOG_LEVEL)  # `init` sets it only after the strategy's message
    strategy = fleet.DistributedStrategy()
    if sharded:
        strategy.hybrid_configs = {"dp_degree": 1, "sharding_degree": world.size}
    fleet.init(is_collective=True, strategy=strategy, log_level=FLEET_LOG_LEVEL)
    return world


def share_groups(world: World, parts: int) -> RankGroup | None:
    """The ranks that share this rank's relation group, where `parts` neighbours share one; None
    where each rank has whole groups. Every rank must call it."""
    if parts == 1:
        return None
    if parts == world.size:  # the ranks have met; a group of their own would be one more meeting
        return RankGroup(None, parts, world.rank)
    groups = [
        paddle.distributed.new_group(list(range(first, first + parts)))
        for first in range(0, world.size, parts)
    ]
    return RankGroup(groups[world.rank // parts], parts, world.rank % parts)


def leave(world: World | None = None) -> None:
    """Wait for the other ranks: the launcher ends all of them as soon as one has ended badly, and
    some may still be writing."""
    if (world or current()).size > 1 and paddle.distributed.is_initialized():
        paddle.distributed.barrier()


def wrap(objective: nn.Layer, optimizer, world: World, sharded: bool = False):
    """(model, optimiser) that average gradients over the ranks.

    sharded: each rank updates a share of the weights, whose moments it alone holds, and sends
    them to the others. Gradients are averaged as without it: all ranks still see their norm.
    """
    if world.size == 1:
        return objective, optimizer
    from paddle.distributed import fleet

    if sharded:
        from paddle.distributed.fleet.meta_optimizers.dygraph_optimizer import (
            dygraph_sharding_optimizer as fleet_sharding,
        )

        topology = fleet.get_hybrid_communicate_group()
        divided = fleet_sharding.DygraphShardingOptimizer(optimizer, topology)
        return paddle.DataParallel(objective), divided
    return fleet.distributed_model(objective), fleet.distributed_optimizer(optimizer)


def with_flag(value: Tensor, flag: bool | None, world: World) -> Tensor:
    """float32 [2]: the value of a scalar, and 1 where the flag is set on any rank, 0 otherwise.

    Every rank must call it; all get the same answer about the flag. With None no rank is asked.
    """
    flags = paddle.full([1], float(flag or 0))  # made on the device: the host waits for no copy
    if flag is not None and world.size > 1:
        paddle.distributed.all_reduce(flags, op=paddle.distributed.ReduceOp.MAX)
    return paddle.concat([value.reshape([1]).astype("float32"), flags])


def sum_over_ranks(number: float) -> Tensor:
    """The sum of a number over the ranks, a float32 scalar. Every rank must call it."""
    total = paddle.full([1], float(number))
    paddle.distributed.all_reduce(total)
    return total.reshape([])


def node_of(world: World) -> Node | None:
    """The ranks of this machine that can share what one of them reads; None for one alone.

    Every rank must call it.
    """
    if world.size == 1 or sys.platform != "linux":
        return None
    # Sockets of the abstract namespace reach as far as a network namespace of one running kernel.
    place = (
        Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"),
        Path("/proc/self/ns/net").stat().st_ino,
    )
    machine = int.from_bytes(hashlib.sha256(repr(place).encode()).digest()[:7])
    by_rank = _gather([machine, secrets.randbits(62)], world)
    same = [rank for rank, (other, _) in enumerate(by_rank) if other == machine]
    if len(same) == 1:
        return None
    return Node(f"ppminilm-{by_rank[same[0]][1]:x}", is_reader=world.rank == same[0])


def neighbours(world: World) -> list[int]:
    """Process ids of the other ranks on this machine."""
    if world.size == 1:
        return []
    host, pid = zlib.crc32(socket.gethostname().encode()), os.getpid()
    others = _gather([host, pid], world)
    return [p for h, p in others if h == host and p != pid]


def _gather(values: list[int], world: World) -> list[list[int]]:
    """The numbers of all ranks, by rank."""
    by_rank: list[Tensor] = []
    paddle.distributed.all_gather(by_rank, paddle.to_tensor(values, dtype="int64"))
    return [tensor.tolist() for tensor in by_rank]


@contextlib.contextmanager
def fail_together(world: World) -> Iterator[None]:
    """When the part inside fails on one rank, end all ranks with its exit code.

    Every rank must enter it, and inside none may wait for another. The rank that failed raises its
    own error, the others a UserError that names it. Otherwise they would wait for it in their next
    exchange, and their supervisors would start them again.
    """
    error = None
    try:
        yield
    except Exception as caught:  # not only a UserError: any error would leave the others waiting
        error = caught
    code = 0 if error is None else getattr(error, "exit_code", 1)
    codes = [code] if world.size == 1 else [other for (other,) in _gather([code], world)]
    if error is not None:
        raise error
    for rank, other in enumerate(codes):
        if other:
            raise UserError(f"rank {rank} has failed; the reason is in its log", exit_code=other)


def from_rank_0(number: int, world: World) -> int:
    """The number that rank 0 passes. Every rank must call it."""
    return number if world.size == 1 else _gather([number], world)[0][0]


def all_reduce_seconds(parameters: list, world: World, repeats: int = 3) -> float:
    """Seconds that the gradients of `parameters` take by themselves; the best of some repeats."""
    if world.size == 1:
        return 0.0
    buffer = paddle.zeros([sum(parameter.size for parameter in parameters)])
    seconds = []
    for _ in range(repeats):
        barrier(world)
        began = time.perf_counter()
        paddle.distributed.all_reduce(buffer)
        buffer[0].item()  # a GPU has only queued it until someone looks
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def barrier(world: World) -> None:
    """Wait for all ranks."""
    if world.size > 1:
        paddle.distributed.barrier()


def weighted_mean(sums: dict[str, float], world: World) -> dict[str, float]:
    """`holdout/NAME` of {name: weighted sum}, divided by the sum `weight`, over all ranks."""
    if world.size > 1:
        by_rank: list[dict[str, float]] = []
        paddle.distributed.all_gather_object(by_rank, sums)
        names = {name for sums_of_rank in by_rank for name in sums_of_rank}
        sums = {name: sum(part.get(name, 0.0) for part in by_rank) for name in names}
    total = sums.pop("weight")
    return {f"holdout/{name}": value / total for name, value in sorted(sums.items())}


def by_rank(values: dict[str, float], world: World) -> list[dict[str, float]]:
    """The numbers of all ranks; every rank must call it with the same names."""
    if world.size == 1:
        return [values]
    names = sorted(values)
    tensors: list[Tensor] = []
    own = paddle.to_tensor([float(values[name]) for name in names], dtype="float64")
    paddle.distributed.all_gather(tensors, own)
    return [dict(zip(names, tensor.tolist(), strict=True)) for tensor in tensors]
