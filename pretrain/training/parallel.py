"""The ranks of a run, on Paddle Fleet."""

import ctypes
import os
import signal
import socket
import sys
import time
import zlib

import paddle
from paddle import Tensor, nn

from data_pipeline.loading.order import World


def start(sharded: bool = False) -> World:
    """Join the other ranks, as `paddle.distributed.launch` has arranged it; alone without it.

    sharded: optimiser state is going to be; see `wrap`.
    """
    size = int(os.environ.get("PADDLE_TRAINERS_NUM", "1"))
    if size == 1:
        return World()
    from paddle.distributed import fleet

    _end_with_launcher()
    strategy = fleet.DistributedStrategy()
    if sharded:
        strategy.hybrid_configs = {"dp_degree": 1, "sharding_degree": size}
    fleet.init(is_collective=True, strategy=strategy)
    return World(paddle.distributed.get_rank(), size)


def _end_with_launcher() -> None:
    """Paddle's launcher puts each rank in a session of its own: killed, it would leave ranks
    behind that train on, and write to the same directory as the next start."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def wrap(objective: nn.Layer, optimizer, world: World, sharded: bool = False):
    """(model, optimiser) that average gradients over the ranks.

    sharded: each rank updates a share of the weights, whose moments it alone keeps, and hands them
    to the others. Gradients are averaged as ever, so that all ranks still see their norm.
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


def any_rank(flag: bool, world: World) -> bool:
    """Whether the flag is up on any rank; every rank must ask, and all get the same answer."""
    if world.size == 1:
        return flag
    tensor = paddle.to_tensor([int(flag)], dtype="int32")
    paddle.distributed.all_reduce(tensor, op=paddle.distributed.ReduceOp.MAX)
    return bool(tensor.item())


def same_on_all_ranks(value: int, world: World) -> bool:
    """Whether all ranks ask with the same number; all get the same answer."""
    return world.size == 1 or len({other for (other,) in _gather([value], world)}) == 1


def neighbours(world: World) -> list[int]:
    """Process ids of the other ranks on this machine."""
    if world.size == 1:
        return []
    own = [zlib.crc32(socket.gethostname().encode()), os.getpid()]
    return [pid for host, pid in _gather(own, world) if host == own[0] and pid != own[1]]


def _gather(values: list[int], world: World) -> list[list[int]]:
    """The numbers of all ranks, by rank."""
    found: list = []
    paddle.distributed.all_gather(found, paddle.to_tensor(values, dtype="int64"))
    return [tensor.tolist() for tensor in found]


def gather(own: dict[str, Tensor], world: World) -> dict[str, Tensor]:
    """Tensors of all ranks on rank 0, where each is held by one of them; nothing on the others."""
    if world.size == 1:
        return own
    held: list[list[tuple[str, list[int], str]]] = []
    entries = [(name, x.shape, str(x.dtype).rpartition(".")[2]) for name, x in own.items()]
    paddle.distributed.all_gather_object(held, entries)
    found = {}
    for rank, theirs in enumerate(held):
        for name, shape, dtype in theirs:
            tensor = own[name] if rank == world.rank else paddle.empty(shape, dtype)
            paddle.distributed.broadcast(tensor, src=rank)
            if world.rank == 0:
                found[name] = tensor.cpu()
    return found


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


def mean_over_ranks(values: dict[str, float], world: World) -> dict[str, float]:
    """The mean of each number over the ranks; every rank must call it with the same names."""
    if world.size == 1 or not values:
        return values
    tensor = paddle.to_tensor([float(values[name]) for name in sorted(values)], dtype="float64")
    paddle.distributed.all_reduce(tensor)
    return dict(zip(sorted(values), (tensor / world.size).tolist(), strict=True))
