"""Text in, labels and probabilities out, whatever computes them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_pipeline.base.errors import UserError
from finetune.deploy.backends import open_backend, outputs_of, read_deploy
from finetune.tasks import Example
from finetune.training.batches import Encoded
from finetune.training.files import kind_of, read_labels, read_result
from finetune.training.kinds import KINDS
from finetune.training.token_data import EncodedTokens
from pretrain.encoders.config import read_config


@dataclass(frozen=True)
class Prediction:
    """The likeliest label of one text, and the probability of every label."""

    label: str
    probability: float
    probabilities: dict[str, float]

    def __str__(self) -> str:
        """`label<tab>probability`."""
        return f"{self.label}\t{self.probability:.4f}"


@dataclass(frozen=True)
class Entity:
    """What was found in a text: `text[start:end]` is a `label`."""

    text: str
    label: str
    start: int
    end: int
    probability: float
    """Mean over the entity's tokens of the probability of the predicted label."""


@dataclass(frozen=True)
class Entities:
    """The entities of one text, in order."""

    entities: list[Entity]

    def __str__(self) -> str:
        """`LABEL:text[start:end]` of each, joined by blanks."""
        return " ".join(f"{e.label}:{e.text}[{e.start}:{e.end}]" for e in self.entities)


class Predictor:
    """A deployable (or classifier) directory, ready to classify text, or to find entities in it.

    `kind` is that of the model's task. `threads` are those of one call. Texts are batched by
    length, so that little is padded.
    """

    def __init__(self, directory: Path | str, threads: int = 2, batch_size: int = 32):
        from data_pipeline.text.encode import WordPieceEncoder

        self.directory = Path(directory)
        if not self.directory.is_dir():
            raise UserError(f"{directory}: no such model directory")
        self.kind, self.max_length = _kind_and_length(self.directory)
        self.backend = open_backend(self.directory, threads)
        self.labels = read_labels(self.directory)
        self.encoder = WordPieceEncoder.of_directory(self.directory)
        self.batch_size = batch_size

    def predict(
        self, texts: list[str], pairs: list[str | None] | None = None
    ) -> list[Prediction] | list[Entities]:
        """One prediction a text, in order; UserError for an empty text.

        Of a model for tokens: the entities of each text, whatever its length.
        """
        data = self.encode(texts, pairs)
        logits = self.encoded_logits(data)
        if isinstance(data, EncodedTokens):
            return self._entities(texts, data, logits)
        return [self._prediction(row) for row in softmax(logits)]

    def logits(self, texts: list[str], pairs: list[str] | None = None) -> np.ndarray:
        """float32 [n, classes] (tokens: see `encoded_logits`); UserError for an empty text."""
        return self.encoded_logits(self.encode(texts, pairs))

    def encode(self, texts: list[str], pairs: list[str] | None = None) -> Encoded:
        """Texts (or pairs) as the model's ids; UserError for an empty text."""
        for number, text in enumerate(texts, 1):
            if not text or not text.strip():
                raise UserError(f"text {number} is empty")
        if pairs is not None and len(pairs) != len(texts):
            raise UserError(f"{len(texts)} texts but {len(pairs)} pairs")
        if self.kind == "tokens" and any(pair is not None for pair in pairs or []):
            raise UserError(f"{self.directory}: finds entities in single texts, not in pairs")
        examples = [
            Example(text, pair)
            for text, pair in zip(texts, pairs or [None] * len(texts), strict=True)
        ]
        return KINDS[self.kind].encode(self.encoder, examples, self.max_length, self.labels)

    def encoded_logits(self, data: Encoded) -> np.ndarray | list[np.ndarray]:
        """Logits of encoded examples, as `data.collect` shapes them."""
        results = outputs_of(self.backend, data, self.batch_size)
        classes = {row.shape[-1] for row in results} - {len(self.labels)}
        if classes:
            raise UserError(
                f"{self.directory}/labels.json: has {len(self.labels)} labels, the model "
                f"{classes.pop()} classes"
            )
        return data.collect(results)

    def _prediction(self, probabilities: np.ndarray) -> Prediction:
        best = int(probabilities.argmax())
        named = {
            label: round(float(p), 6) for label, p in zip(self.labels, probabilities, strict=True)
        }
        return Prediction(self.labels[best], named[self.labels[best]], named)

    def _entities(
        self, texts: list[str], data: EncodedTokens, logits: list[np.ndarray]
    ) -> list[Entities]:
        found: list[list[Entity]] = [[] for _ in texts]
        for row, values in enumerate(logits):
            number, best = data.examples[row], values.argmax(-1)
            highest = softmax(values).max(-1)
            starts = data.places[row][:, 0]
            for span in data.spans(row, best):
                inside = (starts >= span.start) & (starts < span.end)
                found[number].append(
                    Entity(
                        texts[number][span.start : span.end],
                        span.label,
                        span.start,
                        span.end,
                        round(float(highest[inside].mean()), 6),
                    )
                )
        return [Entities(entities) for entities in found]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def _kind_and_length(directory: Path) -> tuple[str, int]:
    """The kind of task and the longest input, from deploy.json or from a classifier's files."""
    if (directory / "deploy.json").exists():
        deploy = read_deploy(directory)
        kind = deploy.get("kind", "classification")
        if kind not in KINDS:
            raise UserError(
                f"{directory}: a model of kind {kind!r} predicts no labels; kinds that do are "
                f"{', '.join(KINDS)} (`embed` gives the vectors of an exported encoder)"
            )
        return kind, int(deploy["max_length"])
    kind = kind_of(read_config(directory))
    return kind, int(read_result(directory).get("max_length", 128))
