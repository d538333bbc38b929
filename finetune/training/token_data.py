"""Texts and their entities as token ids and token labels, and entities back from token labels.

A token is labelled by the entity that its characters lie in. Of a run that WordPiece cuts into
several pieces ("##"), the first piece is labelled and stands for the whole run. [CLS], [SEP], the
other pieces and padding have the label `IGNORE`, which no loss and no score counts.

A text that does not fit is cut, after a sentence where possible, into several rows, so nothing of
it is lost; an entity that a cut goes through cannot be found and counts as missed.
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from finetune.tasks import Example, Span, bio
from finetune.training.batches import IGNORE, Encoded, pad, ragged
from finetune.training.scores import ENTITY_SCORES, Score


@dataclass
class EncodedTokens(Encoded):
    """Rows of token ids with a label for each token; several rows may be of one example."""

    score_table: ClassVar[dict[str, Score]] = ENTITY_SCORES
    """Exact match of entities (place and type), over all of them together (micro-average)."""
    labels: np.ndarray
    """Of objects [rows]: int64 [tokens] of each row; logits are rows in the same way."""
    names: list[str] = field(default_factory=list)
    """The BIO labels, in the order of the logits."""
    places: list[np.ndarray] = field(default_factory=list)
    """int64 [tokens, 2] of each row: start and end (excluded) in the example's text; -1 where the
    label is ignored."""
    examples: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    """int64 [rows]: number of the example."""
    gold: list[tuple[Span, ...]] = field(default_factory=list)
    """The entities that begin in each row, in characters of the example's text."""

    def subset(self, rows: np.ndarray) -> "EncodedTokens":
        """The given rows."""
        names = ("input_ids", "token_type_ids", "places", "gold")
        columns = {name: [getattr(self, name)[row] for row in rows] for name in names}
        return replace(self, **columns, labels=self.labels[rows], examples=self.examples[rows])

    def count(self, rows: np.ndarray) -> int:
        """Labelled tokens of these rows."""
        return sum(int((self.labels[row] != IGNORE).sum()) for row in rows)

    def label_batch(self, rows: np.ndarray, length: int) -> np.ndarray:
        """int64 [B, length], `IGNORE` beyond the end of a row."""
        return pad([self.labels[row] for row in rows], length, IGNORE)

    def collect(self, logits: list[np.ndarray]) -> np.ndarray:
        """Of objects [rows]: float32 [tokens, labels] of each row, without padding."""
        return ragged([row[: len(ids)] for row, ids in zip(logits, self.input_ids, strict=True)])

    def counted_labels(self) -> np.ndarray:
        """All labels that count, int64 [n]."""
        labels = np.concatenate(self.labels)
        return labels[labels != IGNORE]

    def columns(self, logits: np.ndarray) -> tuple[np.ndarray, ...]:
        """int64 [rows, 1] three times: entities that are right, predicted, and in the gold data."""
        rows = np.zeros((len(self), 3), np.int64)
        for row, values in enumerate(logits):
            predicted, gold = self.spans(row, values.argmax(-1)), self.gold[row]
            rows[row] = len(set(predicted) & set(gold)), len(predicted), len(gold)
        return rows[:, :1], rows[:, 1:2], rows[:, 2:]

    def spans(self, row: int, labels: np.ndarray) -> list[Span]:
        """The entities that labels int64 [tokens] of a row mark, in the example's characters."""
        places = self.places[row]
        counted = np.flatnonzero(places[:, 0] >= 0)
        return [
            Span(int(places[counted[start], 0]), int(places[counted[end - 1], 1]), kind)
            for start, end, kind in bio.decode(self.names[label] for label in labels[counted])
        ]


def encode_tokens(
    encoder, examples: list[Example], max_length: int, names: list[str]
) -> EncodedTokens:
    """Encode examples with a `data_pipeline.text.encode.WordPieceEncoder`.

    names: the BIO labels. Examples whose `spans` are None get rows without any entity.
    """
    cls, sep = encoder.special_ids["cls"], encoder.special_ids["sep"]
    index = {name: number for number, name in enumerate(names)}
    ids, types, labels, places, owners, gold = [], [], [], [], [], []
    for number, example in enumerate(examples):
        for start, part in parts_of(encoder, example.text, max_length - 2):
            row = np.asarray([cls, *part.ids, sep], np.int64)
            place = np.full((len(row), 2), -1, np.int64)
            place[1:-1] = np.where(part.is_first[:, None], part.places + start, -1)
            spans = example.spans or ()
            tags = np.full(len(row), IGNORE, np.int64)
            counted = place[:, 0] >= 0
            tags[counted] = [index[tag] for tag in tags_of(place[counted], spans)]
            end = start + part.characters
            ids.append(row)
            types.append(np.zeros(len(row), np.int64))
            labels.append(tags)
            places.append(place)
            owners.append(number)
            gold.append(tuple(span for span in spans if start <= span.start < end))
    examples_of_rows = np.asarray(owners, np.int64)
    return EncodedTokens(ids, types, ragged(labels), names, places, examples_of_rows, gold)


@dataclass(frozen=True)
class Part:
    """A piece of a text that fits into a row."""

    ids: np.ndarray
    """[tokens], without [CLS] and [SEP]."""
    places: np.ndarray
    """int64 [tokens, 2]: start and end of each token's run in the piece."""
    is_first: np.ndarray
    """bool [tokens]: not a later piece of a run."""
    characters: int


def parts_of(encoder, text: str, room: int) -> list[tuple[int, Part]]:
    """(start in `text`, piece of at most `room` tokens), in order; all of `text` is in them."""
    whole = part_of(encoder, text)
    if len(whole.ids) <= room:
        return [(0, whole)]
    parts, start = [], 0
    for piece in pieces(text, room):  # no piece has more tokens than characters
        parts.append((start, part_of(encoder, piece)))
        start += len(piece)
    return parts


def part_of(encoder, text: str) -> Part:
    """A text as one piece."""
    ids, where = encoder.positions(text)
    is_first = np.ones(len(where), bool)
    is_first[1:] = where[1:] != where[:-1]
    starts = where[is_first]
    stops = np.append(starts[1:], len(text))
    lengths = [len(text[a:b].rstrip()) for a, b in zip(starts, stops, strict=True)]
    ends = (starts + lengths)[np.cumsum(is_first) - 1]
    return Part(ids, np.stack([where, ends], 1), is_first, len(text))


def pieces(text: str, longest: int) -> list[str]:
    """Cuts `text` into pieces of at most `longest` characters, after sentences where possible."""
    from data_pipeline.text.sentences import split_long, split_sentences

    pieces = [""]
    for line in text.splitlines(keepends=True):
        body = line.rstrip("\n")
        cut = [part for sentence in split_sentences(body) for part in split_long(sentence, longest)]
        for part in [*cut, line[len(body) :]]:
            if len(pieces[-1]) + len(part) > longest:
                pieces.append("")
            pieces[-1] += part
    return [piece for piece in pieces if piece]


def tags_of(places: np.ndarray, spans: tuple[Span, ...]) -> list[str]:
    """The BIO label of each token: of the entity that it shares characters with, the first such.

    places: int64 [tokens, 2]. Tokens and entities are in order and do not overlap.
    """
    tags = [bio.OUTSIDE] * len(places)
    for span in spans:
        overlapping = np.flatnonzero((places[:, 0] < span.end) & (places[:, 1] > span.start))
        inside = [token for token in overlapping if tags[token] == bio.OUTSIDE]
        for token in inside:
            tags[token] = f"{'B' if token == inside[0] else 'I'}-{span.label}"
    return tags
