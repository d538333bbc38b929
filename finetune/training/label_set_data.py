"""Texts or pairs with any number of labels each, as token ids and 0 or 1 for each label.

A label is predicted when its probability reaches a threshold, one for all labels, which is chosen
on dev (highest micro-F1) and stored with the model.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from finetune.tasks import Example
from finetune.training.batches import Encoded, encode_texts
from finetune.training.scores import LABEL_SET_SCORES, Score, best_threshold

THRESHOLD = "threshold"  # in result.json and deploy.json


@dataclass
class EncodedLabelSets(Encoded):
    """`labels` float32 [n, labels], 1 for those that an example has; logits [n, labels]."""

    score_table: ClassVar[dict[str, Score]] = LABEL_SET_SCORES
    decides: ClassVar[bool] = True
    threshold: float | None = None
    """None: the best one for the logits that are scored, as while models are chosen on dev."""

    def decision(self, logits: np.ndarray) -> dict[str, float]:
        """The threshold that these examples choose."""
        return {THRESHOLD: best_threshold(sigmoid(logits), self.labels)}

    def with_decision(self, decision: dict) -> "EncodedLabelSets":
        """The same examples, scored at a model's threshold."""
        return replace(self, threshold=decision[THRESHOLD])

    def predicted(self, logits: np.ndarray) -> np.ndarray:
        """bool [n, labels]."""
        threshold = self.threshold
        if threshold is None:
            threshold = self.decision(logits)[THRESHOLD]
        return sigmoid(logits) >= threshold

    def columns(self, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """bool [n, labels] three times: right, predicted, gold."""
        predicted, gold = self.predicted(logits), self.labels > 0
        return predicted & gold, predicted, gold


def encode_label_sets(
    encoder, examples: list[Example], max_length: int, names: list[str]
) -> EncodedLabelSets:
    """Encode examples with a `data_pipeline.text.encode.WordPieceEncoder`.

    Examples whose `labels` are None get rows without any label.
    """
    rows = np.zeros((len(examples), len(names)), np.float32)
    for row, example in enumerate(examples):
        rows[row, list(example.labels or ())] = 1
    return EncodedLabelSets(*encode_texts(encoder, examples, max_length), rows)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """float64 probabilities."""
    return 0.5 * (1 + np.tanh(0.5 * logits.astype(np.float64)))
