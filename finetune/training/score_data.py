"""Texts or pairs with a score each, as token ids and float labels: regression and similarity."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from finetune.tasks import Example
from finetune.training.batches import Encoded, encode_texts
from finetune.training.scores import CORRELATIONS, moments, pearson_of_sums


@dataclass
class EncodedScores(Encoded):
    """`labels` float32 [n], NaN where unknown; logits float32 [n, 1] are the predicted scores."""

    score_names: ClassVar[tuple[str, ...]] = tuple(CORRELATIONS)

    def scores(self, logits: np.ndarray) -> dict[str, float]:
        """Pearson's and Spearman's correlation."""
        return {n: function(logits[:, 0], self.labels) for n, function in CORRELATIONS.items()}

    def parts(self, logits: np.ndarray) -> np.ndarray:
        """See `Encoded.parts`; the main score is Pearson's correlation."""
        return moments(logits[:, 0], self.labels)

    @staticmethod
    def score_of_sums(sums: np.ndarray) -> np.ndarray:
        """See `Encoded.score_of_sums`."""
        return pearson_of_sums(sums)


def encode_scores(encoder, examples: list[Example], max_length: int, _: list[str]) -> EncodedScores:
    """Encode examples with a `data_pipeline.text.encode.WordPieceEncoder`."""
    values = [np.nan if example.score is None else example.score for example in examples]
    ids, types = encode_texts(encoder, examples, max_length)
    return EncodedScores(ids, types, np.asarray(values, np.float32))
