"""Encoded examples, and batches of them that waste little on padding."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import numpy as np

from data_pipeline.base.errors import UserError
from finetune.tasks import Example
from finetune.training.scores import SCORES, SampledScore, Score

IGNORE = -100  # the label of tokens that no loss and no score counts; Paddle's own default
PADDING, PADDING_SHARE = 64, 1 / 16  # see `sorted_by_length`
WINDOW = 50  # batches whose examples are sorted by length together: little padding, still random


@dataclass
class Encoded:
    """Token ids with [CLS] and [SEP], ragged; `labels` int64 [n], -1 where unknown."""

    score_table: ClassVar[dict[str, Score]] = SCORES
    """What `scores` gives, from `columns`; the first is the main score of this kind of task."""
    decides: ClassVar[bool] = False
    """Whether something besides the weights is chosen on dev, see `decision`."""
    input_ids: list[np.ndarray]
    token_type_ids: list[np.ndarray]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each example, int64 [n]."""
        return np.fromiter((len(ids) for ids in self.input_ids), np.int64, len(self))

    def first(self, count: int) -> "Encoded":
        """The first `count` rows."""
        return self.subset(np.arange(min(count, len(self))))

    def subset(self, rows: np.ndarray) -> "Encoded":
        """The given rows."""
        return replace(
            self,
            input_ids=[self.input_ids[row] for row in rows],
            token_type_ids=[self.token_type_ids[row] for row in rows],
            labels=self.labels[rows],
        )

    def take(self, rows: np.ndarray, length: int | None = None) -> dict[str, np.ndarray]:
        """int64 `input_ids`, `token_type_ids` [B, L], `labels`; L: `length` or the longest."""
        input_ids = pad([self.input_ids[row] for row in rows], length)
        return {
            "input_ids": input_ids,
            "token_type_ids": pad([self.token_type_ids[row] for row in rows], length),
            "labels": self.label_batch(rows, input_ids.shape[1]),
        }

    @classmethod
    def score_name(cls, asked: str | None = None) -> str:
        """The score that models are chosen by: the main one, or the one `asked` for."""
        if asked is not None and asked not in cls.score_table:
            raise UserError(
                f"choose_by: {asked!r} is not a score of this kind of task; "
                f"one of {', '.join(cls.score_table)}"
            )
        return asked or next(iter(cls.score_table))

    def count(self, rows: np.ndarray) -> int:
        """How many labels of these rows a loss is the mean of."""
        return len(rows)

    def label_batch(self, rows: np.ndarray, length: int) -> np.ndarray:
        """Labels of a batch, as they stand in `labels`."""
        return self.labels[rows]

    def collect(self, logits: list[np.ndarray]) -> np.ndarray:
        """Logits of all rows, float32 [n, classes]."""
        return np.stack(logits)

    def counted_labels(self) -> np.ndarray:
        """All labels that count, int64 [n]."""
        return self.labels

    def columns(self, logits: np.ndarray) -> tuple[np.ndarray, ...]:
        """Arrays [n, ...] that the scores of `score_table` are functions of."""
        return logits.argmax(-1), self.labels

    def decision(self, logits: np.ndarray) -> dict[str, float]:
        """What these examples choose besides the weights, by its name in result.json."""
        return {}

    def with_decision(self, decision: dict) -> "Encoded":
        """The same examples, scored as a model with this decision predicts."""
        return self

    def scores(self, logits: np.ndarray) -> dict[str, float]:
        """Scores by name."""
        columns = self.columns(logits)
        return {name: float(score(*columns)) for name, score in self.score_table.items()}

    def sampled(self, logits: np.ndarray, name: str) -> SampledScore:
        """One of the scores, on any sample of the rows."""
        return SampledScore(len(self), partial(self.score_table[name], *self.columns(logits)))


def ragged(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Arrays of different lengths as one array of objects [n]."""
    array = np.empty(len(rows), object)
    for number, row in enumerate(rows):  # numpy would stack rows of equal lengths
        array[number] = row
    return array


def encode(encoder, examples: list[Example], max_length: int) -> Encoded:
    """Encode examples with a `data_pipeline.text.encode.WordPieceEncoder`."""
    labels = [-1 if example.label is None else example.label for example in examples]
    return Encoded(*encode_texts(encoder, examples, max_length), np.asarray(labels, np.int64))


def encode_texts(
    encoder, examples: list[Example], max_length: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(input_ids, token_type_ids) of each example, int64 [tokens].

    Each example is encoded by itself: as a pair if it has one, even an empty one.
    """
    input_ids: list = [None] * len(examples)
    types: list = [None] * len(examples)
    for is_pair in (False, True):
        rows = [row for row, e in enumerate(examples) if (e.pair is not None) == is_pair]
        texts = [examples[row].text for row in rows]
        pairs = [examples[row].pair for row in rows] if is_pair else None
        encoded = encoder.classify(texts, pairs, max_length)
        for row, ids, segments in zip(rows, *encoded, strict=True):
            input_ids[row] = np.asarray(ids, np.int64)
            types[row] = np.asarray(segments, np.int64)
    return input_ids, types


def pad(rows: list[np.ndarray], length: int | None = None, value: int = 0) -> np.ndarray:
    """int64 [B, L], rows filled up with `value` (the pad id of every BERT vocabulary is 0)."""
    width = length or max(len(row) for row in rows)
    padded = np.full((len(rows), width), value, np.int64)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row
    return padded


def shuffled(lengths: np.ndarray, batch_size: int, seed: int) -> Iterator[np.ndarray]:
    """One epoch of row numbers in batches: random, but of like length inside a window."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(lengths))
    batches = []
    for start in range(0, len(order), batch_size * WINDOW):
        window = order[start : start + batch_size * WINDOW]
        window = window[np.argsort(lengths[window], kind="stable")]
        batches += [window[i : i + batch_size] for i in range(0, len(window), batch_size)]
    for index in random.permutation(len(batches)):
        yield batches[index]


def sorted_by_length(lengths: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """All rows in batches of like length, longest first (the largest allocation comes first).

    A batch has at most `batch_size` rows, and no more padding than PADDING tokens or that share of
    its tokens: one call more costs less than the padding would.
    """
    batches: list[list[int]] = []
    padding = room = longest = 0
    for row in np.argsort(-lengths, kind="stable"):
        length = int(lengths[row])
        padding += longest - length
        room = max(PADDING, int(PADDING_SHARE * longest * len(batches[-1]))) if batches else 0
        if not batches or len(batches[-1]) == batch_size or padding > room:
            batches.append([])
            padding, longest = 0, length
        batches[-1].append(row)
    return [np.array(rows) for rows in batches]
