"""The objective of distillation: make the student's relations those of the teacher."""

import numpy as np
import paddle
from paddle import Tensor, nn

from data_pipeline.loader import Batch
from pretrain.recipe import Relations
from pretrain.relations import qkv_at, relation_loss


class Distillation(nn.Layer):
    """Holds the student as its only sublayer; the teacher stands outside, so that it is neither
    wrapped for data parallelism, nor trained, nor saved."""

    def __init__(
        self,
        student: nn.Layer,
        teacher: nn.Layer,
        student_layer: int,
        teacher_layer: int,
        relations: Relations,
    ):
        super().__init__()
        self.encoder = student
        self.student_layer, self.teacher_layer = student_layer, teacher_layer
        self.relations = relations
        self.terms: dict[str, Tensor] = {}
        teacher.eval()
        for parameter in teacher.parameters():
            parameter.stop_gradient = True
        self._teacher = (teacher,)  # in a tuple, Paddle does not register it as a sublayer

    @paddle.no_grad()
    def prepare(self, batch: Batch, random: np.random.Generator) -> list[Tensor]:
        """Run the teacher: [input_ids, attention_mask, teacher's Q, K, V]. `random` is not used."""
        self.group_size = batch.relation_group_size
        input_ids, mask = paddle.to_tensor(batch.input_ids), paddle.to_tensor(batch.attention_mask)
        return [input_ids, mask, *qkv_at(self._teacher[0], input_ids, mask, self.teacher_layer)]

    def forward(self, input_ids: Tensor, mask: Tensor, *teacher_qkv: Tensor) -> Tensor:
        """The loss of a micro-batch; its parts are left in `terms`, detached."""
        student_qkv = qkv_at(self.encoder, input_ids, mask, self.student_layer)
        losses = {
            name: relation_loss(
                student,
                teacher,
                mask,
                self.relations.heads,
                self.group_size,
                self.relations.alpha,
                self.relations.beta,
            )
            for name, student, teacher in zip("qkv", student_qkv, teacher_qkv, strict=True)
        }
        total = sum(losses.values())
        self.terms = {name: loss.detach() for name, loss in {"total": total, **losses}.items()}
        return total
