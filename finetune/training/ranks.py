"""Fine-tuning on several Fleet ranks: who takes which rows, and gradients over all of them.

Started by `python -m paddle.distributed.launch --nproc_per_node N finetune/__main__.py train ...`.
Every rank holds the whole model. What decides (scores, importance, ranges) is computed by the first
rank and sent to the others.
"""

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from data_pipeline.base.errors import UserError
from data_pipeline.loading import order
from pretrain.training import world as pretraining_world

T = TypeVar("T")


class World(order.World):
    """This process among those that train together."""

    def mine(self, rows: np.ndarray) -> np.ndarray:
        """This rank's rows of a batch; all of them where there are fewer rows than ranks."""
        return rows[self.rank :: self.size] if len(rows) >= self.size else rows

    def share(self, rows: np.ndarray) -> float:
        """Weight of this rank's mean loss in the batch's: the shares of all ranks add up to 1."""
        return len(self.mine(rows)) / len(rows) if len(rows) >= self.size else 1 / self.size

    def average(self, parameters: list, share: float) -> None:
        """Make every gradient the one of the whole batch, by one exchange for all of them."""
        if self.size == 1:
            return
        import paddle
        import paddle.distributed as dist

        trained = [parameter for parameter in parameters if parameter.grad is not None]
        sizes = [int(parameter.size) for parameter in trained]
        with paddle.no_grad():  # gradients are leaves, which may not change in place otherwise
            joined = paddle.concat([parameter.grad.flatten() for parameter in trained]) * share
            dist.all_reduce(joined)
            for parameter, values in zip(trained, paddle.split(joined, sizes), strict=True):
                parameter.grad.set_value(values.reshape(parameter.shape))


def current() -> World:
    """From the launcher's environment, without importing Paddle."""
    world = pretraining_world.current()
    return World(world.rank, world.size)


def from_first(world: World, function: Callable[[], T]) -> T:
    """What `function` returns on the first rank, on every rank; the others do not call it.

    A UserError on the first rank is raised on all of them.
    """
    if world.size == 1:
        return function()
    import paddle.distributed as dist

    outcome: list = [None, None]
    if world.rank == 0:
        try:
            outcome[0] = function()
        except UserError as error:
            outcome[1] = error
    dist.broadcast_object_list(outcome, src=0)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


def require_one(command: str) -> None:
    """UserError when a command that runs in one process was started on several ranks."""
    size = current().size
    if size > 1:
        raise UserError(
            f"{command} runs in one process and was started on {size} ranks; "
            f"start it as python -m finetune {command}"
        )


def join() -> World:
    """Meet the other ranks, once a process; alone, nothing happens."""
    if current().size > 1:
        from pretrain.training import parallel

        parallel.join()
    return current()


def leave() -> None:
    """Wait for the other ranks: the launcher ends all of them when one ends, and some may still be
    writing."""
    if current().size > 1:
        from pretrain.training import parallel

        parallel.leave()
