"""The same step in PyTorch, for benchmarks/distill_step.py: Hugging Face's BertModel as teacher and
student, Q, K and V taken by hooks, the sample-sample loss as the published loop computes it."""

import contextlib
import math
import os

import numpy as np
import torch
import torch.nn.functional as F
from transformers import BertConfig, BertModel

from benchmarks.encoder_sizes import HEADS, SIZES, encoder_fields


def contender(options, bfloat16: bool):
    """A function of the batches of one update."""
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    return TorchStep(SIZES[options.sizes], options.device, bfloat16)


def encoder(layers: int, hidden: int, heads: int, act: str, layers_run: int) -> BertModel:
    """A random encoder of `layers` layers, of which only the first `layers_run` are run."""
    config = BertConfig(**encoder_fields(layers, hidden, heads, act))
    model = BertModel(config, add_pooling_layer=False)
    model.encoder.layer = model.encoder.layer[:layers_run]
    return model


class TorchStep:
    """Its step, with the teacher cut after the layer that is learned."""

    def __init__(self, sizes: dict, device: str, bfloat16: bool):
        torch.manual_seed(0)
        self.device = torch.device("cuda" if device == "gpu" else "cpu")
        self.bfloat16 = bfloat16
        self.teacher = encoder(*sizes["teacher"], "gelu", sizes["teacher_layer"]).eval()
        self.student = encoder(*sizes["student"], "relu", sizes["student"][0]).train()
        self.states = {}
        for who, model in (("teacher", self.teacher), ("student", self.student)):
            model.to(self.device)
            attention = model.encoder.layer[-1].attention.self
            for part in ("query", "key", "value"):
                getattr(attention, part).register_forward_hook(
                    lambda _, __, out, name=(who, part): self.states.__setitem__(name, out)
                )
        frozen = self.student.encoder.layer[-1]  # above Q, K and V nothing has a gradient
        for part in (frozen.attention.output, frozen.intermediate, frozen.output):
            part.requires_grad_(False)
        self.model, self.ranked = self.student, "RANK" in os.environ
        if self.ranked:
            torch.distributed.init_process_group("gloo")
            self.model = torch.nn.parallel.DistributedDataParallel(self.student)
        self.optimizer = torch.optim.AdamW(
            self.student.parameters(), lr=6e-4, weight_decay=0.01, fused=True
        )

    def __call__(self, batches: list[np.ndarray]) -> None:
        """Gradients of all batches, one update."""
        *first, last = batches
        with self.model.no_sync() if self.ranked else contextlib.nullcontext():
            for ids in first:
                (self.loss(ids) / len(batches)).backward()
        (self.loss(last) / len(batches)).backward()
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def loss(self, ids: np.ndarray) -> torch.Tensor:
        """Of one batch."""
        input_ids = torch.from_numpy(ids).to(self.device, non_blocking=True)
        mask = (input_ids != 0).long()
        autocast = (
            torch.autocast(self.device.type, torch.bfloat16)
            if self.bfloat16
            else contextlib.nullcontext()
        )
        with autocast:
            with torch.no_grad():
                self.teacher(input_ids, attention_mask=mask)
            self.model(input_ids, attention_mask=mask)
        return sum(
            sample_loss(self.states["student", part], self.states["teacher", part], mask)
            for part in ("query", "key", "value")
        )

    def wait(self) -> None:
        """Until a GPU has computed everything."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def wait_for_ranks(self) -> None:
        """Until all ranks have come here."""
        torch.distributed.barrier()

    def peak_gpu_mb(self) -> float:
        """The most memory that tensors have taken on the GPU."""
        return torch.cuda.max_memory_allocated() / 2**20

    def more(self, seconds: float) -> dict[str, float]:
        """Nothing else is measured."""
        return {}


def sample_loss(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Relation between the samples of a batch, at each position and head; x: [B, L, hidden]."""
    keys = (1.0 - mask.float()).T[:, None, None, :] * -1e30  # [L, 1, 1, B]
    rows = mask.T[:, None, :] / (mask.sum() * HEADS)  # [L, 1, B]
    log_student, log_teacher = (log_relation(x, keys) for x in (student, teacher))
    kl = (log_teacher.exp() * (log_teacher - log_student)).sum(-1)  # [L, R, B]
    return (kl * rows).sum()


def log_relation(x: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """[B, L, hidden] to log softmax over samples, float32 [L, R, B, B]."""
    batch, length, hidden = x.shape
    x = x.float().reshape(batch, length, HEADS, hidden // HEADS).permute(1, 2, 0, 3)
    return F.log_softmax(x @ x.transpose(-1, -2) / math.sqrt(x.shape[-1]) + keys, dim=-1)
