"""Texts or pairs with a score each, as token ids and float labels: regression and similarity."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from finetune.tasks import Example
from finetune.training.batches import Encoded, encode_texts
from finetune.training.scores import CORRELATIONS, Score


@dataclass
class EncodedScores(Encoded):
    """`labels` float32 [n], NaN where unknown; logits float32 [n, 1] are the predicted scores."""

    score_table: ClassVar[dict[str, Score]] = CORRELATIONS

    def columns(self, logits: np.ndarray) -> tuple[np.ndarray, ...]:
        """float [n] twice: predicted and gold scores."""
        return logits[:, 0], self.labels


def encode_scores(encoder, examples: list[Example], max_length: int, _: list[str]) -> EncodedScores:
    """Encode examples with a `data_pipeline.text.encode.WordPieceEncoder`."""
    values = [np.nan if example.score is None else example.score for example in examples]
    ids, types = encode_texts(encoder, examples, max_length)
    return EncodedScores(ids, types, np.asarray(values, np.float32))
