"""How much each attention head and feed-forward neuron matters, by a criterion of `criteria.py`.

Gradients are cleared after every batch, so the sum over batches is of absolute values of single
batches (the published code of DynaBERT lets them accumulate).
"""

from dataclasses import dataclass

import numpy as np
import paddle

from finetune.prune.criteria import WIDTH_CRITERIA, LayerWeights
from finetune.training.batches import Encoded, sorted_by_length


@dataclass
class Importance:
    """Per layer: float64 [heads] and [neurons], larger is more important."""

    heads: list[np.ndarray]
    neurons: list[np.ndarray]


def measure(model, data: Encoded, batch_size: int = 32, criterion: str = "gradient") -> Importance:
    """Importance over labelled `data`; the model's weights and gradients are left as they were."""
    model.eval()
    total: Importance | None = None
    for rows in sorted_by_length(data.lengths, batch_size):
        batch = {name: paddle.to_tensor(value) for name, value in data.take(rows).items()}
        logits = model(batch["input_ids"], batch["token_type_ids"])
        model.loss(logits, batch["labels"]).backward()
        total = _add(total, _of_batch(model, criterion))
        model.clear_gradients()
    if total is None:
        raise ValueError("importance is measured over examples, and there are none")
    return total


def _of_batch(model, criterion: str) -> Importance:
    pairs = [
        WIDTH_CRITERIA[criterion](_weights_of(number, layer))
        for number, layer in enumerate(model.layers)
    ]
    return Importance([heads for heads, _ in pairs], [neurons for _, neurons in pairs])


def _weights_of(number: int, layer) -> LayerWeights:
    parameters = {
        "out_proj": layer.self_attn.out_proj.weight,
        "linear1": layer.linear1.weight,
        "bias1": layer.linear1.bias,
        "linear2": layer.linear2.weight,
    }
    return LayerWeights(
        number,
        layer.self_attn.num_heads,
        **{name: parameter.numpy() for name, parameter in parameters.items()},
        gradients={name: parameter.grad.numpy() for name, parameter in parameters.items()},
    )


def _add(total: Importance | None, more: Importance) -> Importance:
    if total is None:
        return more
    return Importance(
        [a + b for a, b in zip(total.heads, more.heads, strict=True)],
        [a + b for a, b in zip(total.neurons, more.neurons, strict=True)],
    )
