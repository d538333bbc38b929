"""Models of the kinds of tasks: an encoder, one linear layer, and the losses of the kind.

A new kind is a class here and its entry in CLASSIFIERS, besides what `kinds.py` names.
"""

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from data_pipeline.base.errors import UserError
from finetune.training.batches import IGNORE, Encoded
from finetune.training.encoder_model import EncoderModel
from finetune.training.losses import (
    class_weights,
    counted,
    positive_weights,
    soft_binary_cross_entropy,
    soft_cross_entropy,
)


class Classifier(EncoderModel):
    """Logits [B, classes] for `input_ids` and `token_type_ids`, both int64 [B, L]."""

    kind = "classification"
    architecture = "ForSequenceClassification"  # PaddleNLP's name for such a head
    unit, offset = 1.0, 0.0  # what a regressor's linear layer gives is (score - offset) / unit

    def __init__(self, encoder: nn.Layer, classes: int, dropout: float | None = None):
        super().__init__(encoder)
        config = encoder.config
        self.dropout = nn.Dropout(config.hidden_dropout_prob if dropout is None else dropout)
        self.classifier = nn.Linear(config.hidden_size, classes)
        self.classifier.weight.set_value(
            paddle.normal(0.0, config.initializer_range, self.classifier.weight.shape)
        )

    @property
    def classes(self) -> int:
        """Number of labels."""
        return self.classifier.weight.shape[1]

    def forward(self, input_ids, token_type_ids):
        """Logits [B, classes]."""
        return self.head(self.states(input_ids, token_type_ids)[-1])

    def head(self, state):
        """Logits [B, classes] from the last layer's output [B, >=1, H]; only row 0 is read."""
        return self.classifier(self.dropout(self.encoder.pooler(state)))

    def begin(self, data: Encoded) -> None:
        """Prepare a fresh head for the training data; the logits may change."""

    def start(self, data: Encoded) -> None:
        """Prepare the head for training, before the first step; the logits do not change."""

    def finish(self) -> None:
        """Undo what `start` did to the head, after the last step; the logits do not change."""

    def loss_weight(self, data: Encoded, balance: bool):
        """What `loss` weights classes (or values) with, for the training data; None for nothing.

        balance: whether rare classes shall count as much as common ones.
        """
        if not balance:
            return None
        return paddle.to_tensor(class_weights(data.counted_labels(), self.classes))

    def loss(self, logits, labels, weight=None):
        """Cross-entropy of logits [B, classes] and labels [B], a scalar."""
        return F.cross_entropy(logits, labels, weight=weight)

    def soft_loss(self, logits, target, labels, temperature: float = 1.0, weight=None):
        """The loss against a teacher's logits `target` of the same shape, a scalar."""
        return soft_cross_entropy(counted(logits, labels), counted(target, labels), temperature)


class TokenClassifier(Classifier):
    """Logits [B, L, labels]: one linear layer on every token's state. The pooler is not used."""

    kind = "tokens"
    architecture = "ForTokenClassification"
    reads_first_row = False

    def head(self, state):
        """Logits [B, L, labels] from the last layer's output [B, L, H]."""
        return self.classifier(self.dropout(state))

    def loss(self, logits, labels, weight=None):
        """Cross-entropy, the (weighted) mean over the labelled tokens of labels [B, L].

        Paddle's own mean divides by all tokens, padding too, where the ignored label is negative.
        """
        each = F.cross_entropy(logits, labels, weight=weight, reduction="none").reshape(
            labels.shape
        )
        counts = (labels != IGNORE).astype("float32")
        if weight is not None:
            counts = counts * weight[labels.clip(min=0)]
        return each.sum() / counts.sum()


class Regressor(Classifier):
    """One number a text, [B, 1], in the units of the task's scores."""

    kind = "regression"

    def head(self, state):
        """Scores [B, 1] from the last layer's output; only row 0 is read."""
        return super().head(state) * self.unit + self.offset

    def begin(self, data: Encoded) -> None:
        """Predict the mean score of the training data, with about its spread."""
        self.unit, self.offset = spread_of(data.labels), float(data.labels.mean())

    def start(self, data: Encoded) -> None:
        """Let the linear layer learn scores less their mean, in standard deviations: learning rates
        then mean the same for scores from 0 to 1 and from 0 to 100."""
        self.change_unit(spread_of(data.labels), float(data.labels.mean()))

    def finish(self) -> None:
        """Let the linear layer give the scores themselves, as it is stored."""
        self.change_unit(1.0, 0.0)

    def change_unit(self, unit: float, offset: float) -> None:
        """Let the linear layer give (score - offset) / unit."""
        linear, factor = self.classifier, self.unit / unit
        linear.weight.set_value(linear.weight * factor)
        linear.bias.set_value(linear.bias * factor + (self.offset - offset) / unit)
        self.unit, self.offset = unit, offset

    def loss_weight(self, data: Encoded, balance: bool):
        """1 / variance of the scores; UserError for `balance`, as there are no classes."""
        if balance:
            raise UserError("balance_classes: a task of scores has no classes to balance")
        return 1 / spread_of(data.labels) ** 2

    def loss(self, logits, labels, weight=None):
        """Mean squared error of scores [B, 1] against labels [B], times `weight`."""
        return F.mse_loss(logits.squeeze(-1), labels) * (1.0 if weight is None else weight)

    def soft_loss(self, logits, target, labels, temperature: float = 1.0, weight=None):
        """Mean squared error against the teacher's scores; a temperature has no meaning here."""
        return self.loss(logits, target.squeeze(-1), weight)


class MultiLabelClassifier(Classifier):
    """Logits [B, labels], each label a decision of its own."""

    kind = "multi_label"

    def loss_weight(self, data: Encoded, balance: bool):
        """float32 [labels]: with `balance`, how much more a positive counts than a negative."""
        return paddle.to_tensor(positive_weights(data.labels)) if balance else None

    def loss(self, logits, labels, weight=None):
        """Mean binary cross-entropy of logits and labels (0 or 1), both [B, labels]."""
        return F.binary_cross_entropy_with_logits(logits, labels, pos_weight=weight)

    def soft_loss(self, logits, target, labels, temperature: float = 1.0, weight=None):
        """Binary cross-entropy against the teacher's probabilities."""
        return soft_binary_cross_entropy(logits, target, temperature)


CLASSIFIERS: dict[str, type[Classifier]] = {
    form.kind: form for form in (Classifier, TokenClassifier, Regressor, MultiLabelClassifier)
}


def spread_of(scores: np.ndarray) -> float:
    """Standard deviation; 1 where scores do not vary."""
    return float(scores.astype(np.float64).std()) or 1.0
