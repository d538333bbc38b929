"""How much each attention head and feed-forward neuron matters to the loss.

DynaBERT (arXiv 2004.04037) ranks by |dL/dm| where m multiplies a head's (a neuron's) output. That
derivative needs no mask in the network: the output enters the loss only through rows W of the next
matrix, so dL/dm = <W, dL/dW> over those rows. Gradients are cleared after every batch, so the sum
over batches is of absolute values of single batches (the published code lets them run together).
"""

from dataclasses import dataclass

import numpy as np
import paddle
import paddle.nn.functional as F

from finetune.training.batches import Encoded, sorted_by_length


@dataclass
class Importance:
    """Per layer: float64 [heads] and [neurons], larger is more important."""

    heads: list[np.ndarray]
    neurons: list[np.ndarray]


def measure(model, data: Encoded, batch_size: int = 32) -> Importance:
    """Importance over labelled `data`; the model's weights and gradients are left as they were."""
    model.eval()
    total: Importance | None = None
    for rows in sorted_by_length(data.lengths, batch_size):
        batch = {name: paddle.to_tensor(value) for name, value in data.take(rows).items()}
        logits = model(batch["input_ids"], batch["token_type_ids"])
        F.cross_entropy(logits, batch["labels"]).backward()
        total = _add(total, _of_batch(model))
        model.clear_gradients()
    return total


def _of_batch(model) -> Importance:
    """|<W, dL/dW>| of one batch, rows of `out_proj` by head and of `linear2` by neuron."""
    heads, neurons = [], []
    for layer in model.layers:
        by_row = _row_products(layer.self_attn.out_proj.weight)
        heads.append(np.abs(by_row.reshape(layer.self_attn.num_heads, -1).sum(1)))
        neurons.append(np.abs(_row_products(layer.linear2.weight)))
    return Importance(heads, neurons)


def _row_products(weight) -> np.ndarray:
    return (weight.numpy().astype("float64") * weight.grad.numpy()).sum(1)


def _add(total: Importance | None, more: Importance) -> Importance:
    if total is None:
        return more
    return Importance(
        [a + b for a, b in zip(total.heads, more.heads, strict=True)],
        [a + b for a, b in zip(total.neurons, more.neurons, strict=True)],
    )
