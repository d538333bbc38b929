"""Quantisation-aware training: fine-tune with weights and activations rounded to 8 bits.

Paddle's QAT trains and learns the activation scales; what it exports is unusable (the reloaded
graph returns garbage), so its product here is an ordinary classifier directory plus the trained
scales, from which the INT8 ONNX model is built.
"""

from pathlib import Path

import numpy as np
import paddle
from paddle import nn
from paddle.quantization.base_quanter import BaseQuanter
from paddle.quantization.factory import QuanterFactory

from data_pipeline.base.machine import int8_weight_peak
from finetune.quantise.qat_scales import write_scales
from finetune.recipes import QatRecipe
from finetune.training import classifier
from finetune.training.evaluate import evaluate
from finetune.training.fit import fit
from finetune.training.task_data import load_with_task
from finetune.training.train import losses_of


def train_for_int8(recipe: QatRecipe, directory: Path) -> None:
    """Write the trained classifier and its activation scales into `directory`."""
    model, data = load_with_task(recipe.classifier, recipe.task)
    with_fake_quantisers(model)
    fitted = fit(
        model,
        data.train,
        recipe.qat,
        losses_of(model, recipe.qat, data.train),
        lambda: evaluate(model, data.dev),
        label="quantisation-aware training",
    )
    result = data.result(model, fitted)  # of the rounded model: what INT8 will be near to
    plain = classifier.load(recipe.classifier).model  # the names of its weights are the same
    trained = model.state_dict()
    for name, value in plain.state_dict().items():
        value.set_value(trained[name])
    data.save(plain, directory, result)
    write_scales(directory, trained_scales(model))


def with_fake_quantisers(model) -> None:
    """Round the inputs and weights of the encoder layers' products on the way forward, in place.

    Inputs: Paddle's moving average of the largest |x|. Weights: symmetric, a scale per output
    column, as in the INT8 file. Gradients pass the rounding unchanged (straight-through).
    """
    from paddle.quantization import QAT, QuantConfig
    from paddle.quantization.quanters import FakeQuanterWithAbsMaxObserver

    config = QuantConfig(activation=None, weight=None)
    linears = [layer for layer in model.layers.sublayers() if isinstance(layer, nn.Linear)]
    config.add_layer_config(
        linears, activation=FakeQuanterWithAbsMaxObserver(moving_rate=0.9), weight=ColumnAbsMax()
    )
    QAT(config).quantize(model, inplace=True)


def trained_scales(model) -> dict[str, tuple[np.ndarray, float]]:
    """Layer name to (its weight, the largest |input| of its grid)."""
    return {
        name: (layer.weight.numpy(), float(layer.activation_quanter.scales()))
        for name, layer in model.named_sublayers()
        if getattr(layer, "activation_quanter", None) is not None
    }


class ColumnAbsMaxLayer(BaseQuanter):
    """Weight [inputs, outputs] rounded to as many steps either side of 0 as the INT8 file has on
    this machine, with a scale per column."""

    def __init__(self, layer, bit_length: int = 8):
        super().__init__()
        self._bits, self._peak = bit_length, int8_weight_peak()

    def forward(self, weight):
        """The rounded weight; its gradient is the weight's."""
        step = weight.detach().abs().max(axis=0).clip(min=1e-8) / self._peak
        return weight + (paddle.round(weight / step) * step - weight).detach()

    def bit_length(self) -> int:
        """8."""
        return self._bits

    def quant_axis(self) -> int:
        """Columns."""
        return 1

    def scales(self):
        """Recomputed at every call of `forward`; nothing is learnt."""
        return None

    def zero_points(self):
        """Symmetric: none."""
        return None


class ColumnAbsMax(QuanterFactory):
    """What `QuantConfig` makes a ColumnAbsMaxLayer with."""

    def _get_class(self):
        return ColumnAbsMaxLayer
