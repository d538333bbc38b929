"""The objective of distillation: make the student's relations those of the teacher."""

import numpy as np
import paddle
from paddle import Tensor, nn

from data_pipeline.loading.loader import Batch
from pretrain.encoders.teacher_engine import Engine
from pretrain.objectives.relations import relation_loss, states_at
from pretrain.recipe import Relations
from pretrain.training.flops import Cost


class Distillation(nn.Layer):
    """Holds the student as its only sublayer; the teacher stands outside, so that it is neither
    wrapped for data parallelism, nor trained, nor saved."""

    def __init__(
        self,
        student: nn.Layer,
        teacher: Engine,
        layer: int,
        relations: Relations,
        cost: Cost | None = None,
    ):
        super().__init__()
        self.encoder, self.teacher, self.layer = student, teacher, layer
        self.relations, self.with_hidden = relations, relations.hidden > 0
        self.terms: dict[str, Tensor] = {}
        self.cost = cost

    def prepare(self, batch: Batch, random: np.random.Generator) -> list[Tensor]:
        """Run the teacher: [input_ids, attention_mask, its Q, K, V (and H)]. `random` is unused."""
        self.group_size = batch.relation_group_size
        states = self.teacher(batch.input_ids, batch.attention_mask)
        return [paddle.to_tensor(batch.input_ids), paddle.to_tensor(batch.attention_mask), *states]

    def forward(self, input_ids: Tensor, mask: Tensor, *teacher_states: Tensor) -> Tensor:
        """The loss of a micro-batch; its parts are left in `terms`, detached."""
        states = states_at(self.encoder, input_ids, mask, self.layer, self.with_hidden)
        settings = self.relations
        losses = {
            name: relation_loss(
                *pair, mask, settings.heads, self.group_size, settings.alpha, settings.beta
            )
            for name, *pair in zip("qkvh", states, teacher_states, strict=False)
        }
        total = losses["q"] + losses["k"] + losses["v"]
        if self.with_hidden:
            total = total + settings.hidden * losses["h"]
        self.terms = {name: loss.detach() for name, loss in {"total": total, **losses}.items()}
        return total
