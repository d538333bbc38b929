"""Text in, labels and probabilities out, whatever computes them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_pipeline.base.errors import UserError
from finetune.deploy.backends import open_backend, read_deploy
from finetune.tasks import Example
from finetune.training.batches import Encoded, encode, sorted_by_length
from finetune.training.files import read_labels, read_result


@dataclass(frozen=True)
class Prediction:
    """The likeliest label of one text, and the probability of every label."""

    label: str
    probability: float
    probabilities: dict[str, float]


class Predictor:
    """A deployable (or classifier) directory, ready to classify text.

    `threads` are those of one call. Texts are batched by length, so that little is padded.
    """

    def __init__(self, directory: Path | str, threads: int = 2, batch_size: int = 32):
        from data_pipeline.text.encode import WordPieceEncoder

        self.directory = Path(directory)
        if not self.directory.is_dir():
            raise UserError(f"{directory}: no such model directory")
        self.backend = open_backend(self.directory, threads)
        self.labels = read_labels(self.directory)
        self.max_length = _max_length(self.directory)
        self.encoder = WordPieceEncoder(self.directory / "vocab.txt")
        self.batch_size = batch_size

    def predict(self, texts: list[str], pairs: list[str] | None = None) -> list[Prediction]:
        """One prediction a text, in order; UserError for an empty text."""
        return [self._prediction(row) for row in softmax(self.logits(texts, pairs))]

    def logits(self, texts: list[str], pairs: list[str] | None = None) -> np.ndarray:
        """float32 [n, classes]; UserError for an empty text."""
        for number, text in enumerate(texts, 1):
            if not text or not text.strip():
                raise UserError(f"text {number} is empty")
        if pairs is not None and len(pairs) != len(texts):
            raise UserError(f"{len(texts)} texts but {len(pairs)} pairs")
        examples = [
            Example(text, pair)
            for text, pair in zip(texts, pairs or [None] * len(texts), strict=True)
        ]
        return self.encoded_logits(encode(self.encoder, examples, self.max_length))

    def encoded_logits(self, data: Encoded):
        """Logits of encoded examples, as `data.collect` shapes them."""
        results: list = [None] * len(data)
        for rows in sorted_by_length(data.lengths, self.batch_size):
            batch = data.take(rows)
            logits = self.backend.logits(batch["input_ids"], batch["token_type_ids"])
            for row, value in zip(rows, logits, strict=True):
                results[row] = value
        return data.collect(results)

    def _prediction(self, probabilities: np.ndarray) -> Prediction:
        best = int(probabilities.argmax())
        named = {
            label: round(float(p), 6) for label, p in zip(self.labels, probabilities, strict=True)
        }
        return Prediction(self.labels[best], named[self.labels[best]], named)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def _max_length(directory: Path) -> int:
    if (directory / "deploy.json").exists():
        return int(read_deploy(directory)["max_length"])
    return int(read_result(directory).get("max_length", 128))
