"""Width: reorder heads and neurons by importance, run on a prefix of them, cut the rest off.

After `reorder` the most important heads and neurons come first, so a narrower network is a prefix
of every matrix: `elastic` runs any width on shared weights, `extract` makes a really smaller model.
"""

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from finetune.prune.importance import Importance
from finetune.training.classifier import Classifier, resize


def count_at_width(count: int, width: float) -> int:
    """How many of `count` heads or neurons stay at a width: at least one."""
    return max(1, round(count * width))


def reorder(model: Classifier, importance: Importance) -> None:
    """Permute heads and neurons, most important first, in place; the logits do not change.

    Biases move with their weights (in the published code they stay behind).
    """
    for layer, heads, neurons in zip(
        model.layers, importance.heads, importance.neurons, strict=True
    ):
        attention = layer.self_attn
        order = np.argsort(-heads, kind="stable")
        rows = (order[:, None] * attention.head_dim + np.arange(attention.head_dim)).ravel()
        for linear in (attention.q_proj, attention.k_proj, attention.v_proj):
            _permute(linear, outputs=rows)
        _permute(attention.out_proj, inputs=rows)
        order = np.argsort(-neurons, kind="stable")
        _permute(layer.linear1, outputs=order)
        _permute(layer.linear2, inputs=order)


def _permute(linear, inputs: np.ndarray | None = None, outputs: np.ndarray | None = None) -> None:
    weight = linear.weight.numpy()
    if inputs is not None:
        linear.weight.set_value(weight[inputs])
    if outputs is not None:
        linear.weight.set_value(weight[:, outputs])
        linear.bias.set_value(linear.bias.numpy()[outputs])


class ElasticLinear(nn.Layer):
    """A linear layer that uses the first `inputs` rows and `outputs` columns of its weight."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        self.inputs, self.outputs = linear.weight.shape

    def forward(self, x):
        """[..., inputs] to [..., outputs]."""
        weight, bias = self.weight, self.bias
        if [self.inputs, self.outputs] != list(weight.shape):
            weight = weight[: self.inputs, : self.outputs]
            bias = bias[: self.outputs]
        return F.linear(x, weight, bias)


def elastic(model: Classifier) -> None:
    """Let the encoder layers run at any width, in place; names and values of weights stay."""
    for layer in model.layers:
        for owner, name in _linears(layer):
            setattr(owner, name, ElasticLinear(getattr(owner, name)))


def set_width(model: Classifier, width: float) -> None:
    """The width at which an elastic model runs from now on."""
    for layer in model.layers:
        attention = layer.self_attn
        # the full sizes are those of the weights, whatever the width was before
        heads = count_at_width(attention.q_proj.weight.shape[1] // attention.head_dim, width)
        neurons = count_at_width(layer.linear1.weight.shape[1], width)
        attention.num_heads = heads
        for linear in (attention.q_proj, attention.k_proj, attention.v_proj):
            linear.outputs = heads * attention.head_dim
        attention.out_proj.inputs = heads * attention.head_dim
        layer.linear1.outputs = layer.linear2.inputs = neurons


def extract(model: Classifier, width: float) -> Classifier:
    """A new classifier that holds only the prefix of `model` that `width` uses."""
    small = type(model)(type(model.encoder)(model.encoder.config), model.classes)
    heads, ffn = [], []
    for layer in model.layers:
        head_dim = layer.self_attn.head_dim
        heads.append(count_at_width(layer.self_attn.q_proj.weight.shape[1] // head_dim, width))
        ffn.append(count_at_width(layer.linear1.weight.shape[1], width))
    resize(small, heads, ffn)
    full = model.state_dict()
    for name, value in small.state_dict().items():
        prefix = tuple(slice(0, size) for size in value.shape)
        value.set_value(paddle.to_tensor(full[name].numpy()[prefix]))
    small.unit, small.offset = model.unit, model.offset
    small.finish()  # `model` may be in training
    small.eval()
    return small


def _linears(layer):
    attention = layer.self_attn
    names = ("q_proj", "k_proj", "v_proj", "out_proj")
    return [(attention, name) for name in names] + [(layer, "linear1"), (layer, "linear2")]
