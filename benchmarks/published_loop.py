"""The published loop, for benchmarks/distill_step.py: PaddleNLP's `to_distill` and
`calc_multi_relation_loss`, used as its pp-minilm example does (general_distill.py)."""

import numpy as np
import paddle
from paddlenlp.transformers import (
    PPMiniLMForSequenceClassification,
    RobertaConfig,
    RobertaModel,
)
from paddlenlp.transformers.distill_utils import calc_multi_relation_loss, to_distill
from paddlenlp.transformers.ppminilm.configuration import PPMiniLMConfig

from benchmarks.encoder_sizes import HEADS, SIZES, encoder_fields
from pretrain.encoders import device


def contender(options, frozen: bool):
    """A function of the batches of one update."""
    paddle.set_device(options.device)
    return PublishedStep(SIZES[options.sizes], frozen)


class PublishedStep:
    """Its step: alpha 0, beta 1, a batch's own samples related to each other."""

    def __init__(self, sizes: dict, frozen: bool):
        paddle.seed(0)
        teacher = RobertaModel(RobertaConfig(**encoder_fields(*sizes["teacher"], "gelu")))
        student = PPMiniLMForSequenceClassification(
            PPMiniLMConfig(**encoder_fields(*sizes["student"], "relu"))
        )
        self.teacher = to_distill(teacher, return_qkv=True, layer_index=sizes["teacher_layer"] - 1)
        self.student = to_distill(student, return_qkv=True, layer_index=sizes["student"][0] - 1)
        if frozen:  # the published loop leaves the teacher's dropout on
            teacher.eval()
        self.kl = paddle.nn.KLDivLoss("sum")
        decayed = [
            p.name
            for n, p in student.named_parameters()
            if not any(x in n for x in ("bias", "norm"))
        ]
        self.optimizer = paddle.optimizer.AdamW(
            6e-4,
            parameters=student.parameters(),
            weight_decay=0.01,
            apply_decay_param_fun=lambda name: name in decayed,
            grad_clip=paddle.nn.ClipGradByGlobalNorm(1.0),
        )

    def __call__(self, batches: list[np.ndarray]) -> None:
        """Gradients of all batches, one update."""
        for ids in batches:
            (self.loss(ids) / len(batches)).backward()
        self.optimizer.step()
        self.optimizer.clear_grad()

    def loss(self, ids: np.ndarray) -> paddle.Tensor:
        """Of one batch."""
        input_ids = paddle.to_tensor(ids)
        mask = ((input_ids == 0).astype("float32") * -1e9).unsqueeze([1, 2])
        with paddle.no_grad():
            self.teacher(input_ids)
        teacher = self.teacher.outputs
        self.student(input_ids)
        student = self.student.outputs
        losses = [
            calc_multi_relation_loss(
                self.kl, getattr(student, x), getattr(teacher, x), mask, HEADS, 0.0, 1.0
            )
            for x in "qkv"
        ]
        return sum(losses) / (HEADS * ids.size)

    def wait(self) -> None:
        """Until a GPU has computed everything."""
        device.synchronise()

    def peak_gpu_mb(self) -> float:
        """The most memory that tensors have taken on the GPU."""
        return device.peak_gpu_memory_mb()

    def more(self, seconds: float) -> dict[str, float]:
        """Nothing else is measured."""
        return {}
