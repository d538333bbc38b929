"""Relation groups whose samples lie on several ranks.

Each rank hands the others their heads of its samples, and gets its heads of theirs: so it relates
all samples of the group for 1/parts of the heads. Work and memory are divided by the number of
ranks, and the sum over these is the loss of the whole group.
"""

from dataclasses import dataclass

import paddle
from paddle import Tensor

from pretrain.encoders import device


@dataclass(frozen=True)
class RankGroup:
    """The ranks that share a relation group, seen from one of them."""

    process_group: object
    """Paddle's group of them; None: all ranks of the run."""
    parts: int
    """Number of these ranks."""
    part: int
    """Number of this one among them."""

    def exchange(self, x: Tensor) -> Tensor:
        """[samples of this rank, L, R, d] to [samples of the group, L, R / parts, d], with the
        gradient by the inverse exchange. Every rank of the group must call it."""
        return HeadExchange.apply(x, self)


class HeadExchange(paddle.autograd.PyLayer):
    """`RankGroup.exchange`."""

    @staticmethod
    def forward(ctx, x: Tensor, ranks: RankGroup) -> Tensor:
        """Give heads, get samples."""
        ctx.ranks = ranks
        return paddle.concat(all_to_all(paddle.split(x, ranks.parts, axis=2), ranks), axis=0)

    @staticmethod
    def backward(ctx, upstream: Tensor) -> Tensor:
        """Give samples, get heads."""
        parts = paddle.split(upstream, ctx.ranks.parts, axis=0)
        return paddle.concat(all_to_all(parts, ctx.ranks), axis=2)


def all_to_all(parts: list[Tensor], ranks: RankGroup) -> list[Tensor]:
    """Part number j goes to rank j; the parts that the ranks have for this one, by rank."""
    parts = [part.contiguous() for part in parts]
    received: list[Tensor] = []
    if device.on_gpu():
        paddle.distributed.alltoall(received, parts, group=ranks.process_group)
        return received
    # Gloo has no all-to-all: gather what every rank gives to all, and pick.
    paddle.distributed.all_gather(received, paddle.stack(parts), group=ranks.process_group)
    return [given[ranks.part] for given in received]
