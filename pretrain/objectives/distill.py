"""The objective of distillation: make the student's relations those of the teacher."""

from collections.abc import Callable, Mapping

import numpy as np
from paddle import Tensor, nn

from data_pipeline.loading.loader import Batch
from pretrain.encoders.compute import Compute, Engine
from pretrain.encoders.states import PLAIN, states_at
from pretrain.objectives.relations import relation_loss
from pretrain.objectives.settings import Relations
from pretrain.objectives.span import RankGroup


class Distillation(nn.Layer):
    """Holds the student as its only sublayer; the teacher stands outside, so that it is neither
    wrapped for data parallelism, nor trained, nor saved.

    Args:
        student: the encoder that is trained.
        teacher: gives the teacher's Q, K, V (and H).
        layer: the student's layer, from 1.
        relations: which relations, and their weights.
        group_size: samples of a relation group.
        compute: how the student's layers are computed.
        cost: floating-point operations of a batch of (tokens, length); None when it is not needed.
        constants: numbers that every record of the run repeats.
        ranks: those that share a relation group, where several do.
        identity: digests by name of what a resumed run must find unchanged.
    """

    weighted = False  # all relation groups count alike, and micro-batches have as many each

    def __init__(
        self,
        student: nn.Layer,
        teacher: Engine,
        layer: int,
        relations: Relations,
        group_size: int,
        compute: Compute = PLAIN,
        cost: Callable[[int, int], int] | None = None,
        constants: Mapping[str, float] | None = None,
        identity: Mapping[str, str] | None = None,
        ranks: RankGroup | None = None,
    ):
        super().__init__()
        self.encoder, self.teacher, self.layer = student, teacher, layer
        self.relations, self.group_size, self.compute = relations, group_size, compute
        self.cost, self.constants = cost, dict(constants or {})
        self.identity, self.ranks = dict(identity or {}), ranks

    def sample(self, batch: Batch, random: np.random.Generator) -> tuple[list[np.ndarray], int]:
        """([input_ids, attention_mask, the mask of the whole relation group], 1), the last one only
        where several ranks share a group; `random` is unused."""
        arrays = [batch.input_ids, batch.attention_mask]
        return arrays if batch.group_mask is None else [*arrays, batch.group_mask], 1

    def targets(self, input_ids: Tensor, mask: Tensor, *_: Tensor) -> list[Tensor]:
        """The teacher's Q, K, V (and H)."""
        return self.teacher(input_ids, mask)

    def forward(
        self, input_ids: Tensor, mask: Tensor, *others: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """(the loss of a micro-batch, its parts by name, detached); arguments are those of `sample`
        and then those of `targets`."""
        whole_mask, size = None, self.group_size
        if self.ranks is not None:
            whole_mask, others = others[0], others[1:]
            size //= self.ranks.parts
        settings = self.relations
        with_hidden = settings.hidden > 0
        states = states_at(self.encoder, input_ids, mask, self.layer, with_hidden, self.compute)
        weights = settings.weights()
        losses = {
            name: relation_loss(
                own, target, mask, settings.heads, size, weights, self.ranks, whole_mask
            )
            for name, own, target in zip("qkvh", states, others, strict=False)
        }
        total = losses["q"] + losses["k"] + losses["v"]
        if with_hidden:
            total = total + settings.hidden * losses["h"]
        return total, {name: loss.detach() for name, loss in {"total": total, **losses}.items()}
