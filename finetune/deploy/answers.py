"""Predictions: what logits say of a text, by kind of task.

A new kind is a class, a function and an entry in ANSWERS. Each class prints as one field of a line.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from finetune.training.batches import Encoded
from finetune.training.label_set_data import EncodedLabelSets, sigmoid
from finetune.training.token_data import EncodedTokens


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
class Score:
    """The score of one text or pair, in the units of the task."""

    score: float

    def __str__(self) -> str:
        """The score."""
        return f"{self.score:.4f}"


@dataclass(frozen=True)
class LabelSet:
    """The labels of one text whose probability reaches the model's threshold, the likeliest
    first, and the probability of every label."""

    labels: list[str]
    probabilities: dict[str, float]

    def __str__(self) -> str:
        """The labels, joined by commas."""
        return ",".join(self.labels)


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


def classes(texts: list[str], data: Encoded, logits: np.ndarray, labels: list[str]):
    """A `Prediction` for each text."""
    predictions = []
    for row in softmax(logits):
        named = probabilities_of(row, labels)
        best = labels[int(row.argmax())]
        predictions.append(Prediction(best, named[best], named))
    return predictions


def single_scores(texts: list[str], data: Encoded, logits: np.ndarray, labels: list[str]):
    """A `Score` for each text."""
    return [Score(round(float(value), 6)) for value in logits[:, 0]]


def label_sets(texts: list[str], data: EncodedLabelSets, logits: np.ndarray, labels: list[str]):
    """A `LabelSet` for each text."""
    answers = []
    for row, chosen in zip(sigmoid(logits), data.predicted(logits), strict=True):
        order = [int(index) for index in np.argsort(-row, kind="stable") if chosen[index]]
        answers.append(LabelSet([labels[index] for index in order], probabilities_of(row, labels)))
    return answers


def entities(
    texts: list[str], data: EncodedTokens, logits: np.ndarray, labels: list[str]
) -> list[Entities]:
    """The `Entities` of each text."""
    by_text: list[list[Entity]] = [[] for _ in texts]
    for row, values in enumerate(logits):
        number, best = data.examples[row], values.argmax(-1)
        highest = softmax(values).max(-1)
        starts = data.places[row][:, 0]
        for span in data.spans(row, best):
            inside = (starts >= span.start) & (starts < span.end)
            by_text[number].append(
                Entity(
                    texts[number][span.start : span.end],
                    span.label,
                    span.start,
                    span.end,
                    round(float(highest[inside].mean()), 6),
                )
            )
    return [Entities(of_text) for of_text in by_text]


# Of (texts, the same encoded, logits, names of the labels): one prediction for each text.
ANSWERS: dict[str, Callable[..., list[Any]]] = {
    "classification": classes,
    "tokens": entities,
    "regression": single_scores,
    "multi_label": label_sets,
}


def probabilities_of(row: np.ndarray, labels: list[str]) -> dict[str, float]:
    """Label to probability, rounded."""
    return {label: round(float(value), 6) for label, value in zip(labels, row, strict=True)}


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)
