"""The one shape that every task has once it is read."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from data_pipeline.base.errors import UserError

SPLITS = ("train", "dev", "test")
Kind = Literal["classification", "tokens", "regression", "multi_label"]


@dataclass(frozen=True)
class Span:
    """Characters `start` to `end` (excluded) of a text, and what they are: "PER", "LOC", ..."""

    start: int
    end: int
    label: str


@dataclass(frozen=True)
class Example:
    """One text or pair.

    `label` indexes `Task.labels` and is None where it is unknown. Other kinds of tasks have
    another field in its place: "tokens" has `spans`, what is to be found in the text, in order and
    without overlap; "regression" has `score`; "multi_label" has `labels`, indices, perhaps none.
    """

    text: str
    pair: str | None = None
    label: int | None = None
    spans: tuple[Span, ...] | None = None
    score: float | None = None
    labels: tuple[int, ...] | None = None


@dataclass
class Task:
    """A task; splits are read when they are first asked for.

    `read(split)` returns the examples of "train", "dev" or "test", or None when the task has no
    such split with labels. `kind` is "classification" (one label a text), "tokens" (one label a
    token; `labels` are then BIO labels, as `bio.labels_of` makes them), "regression" (a score a
    text or pair; `labels` is its name alone) or "multi_label" (any number of labels a text).
    """

    name: str
    labels: list[str]
    read: Callable[[str], list[Example] | None]
    max_length: int = 128
    kind: Kind = "classification"
    _splits: dict[str, list[Example] | None] = field(default_factory=dict)

    def has(self, split: str) -> bool:
        """Whether the split exists, with labels."""
        return self._get(split) is not None

    def split(self, name: str) -> list[Example]:
        """Labelled examples of a split; UserError when there are none."""
        examples = self._get(name)
        if not examples:
            raise UserError(f"task {self.name}: no labelled {name} examples")
        return examples

    @property
    def held_out_split(self) -> str:
        """The split that a finished model is reported on: test where it has labels, else dev."""
        return "test" if self.has("test") else "dev"

    def held_out(self) -> list[Example]:
        """The examples of `held_out_split`."""
        return self.split(self.held_out_split)

    def _get(self, name: str) -> list[Example] | None:
        if name not in SPLITS:
            raise UserError(f"unknown split {name!r}: one of {', '.join(SPLITS)}")
        if name not in self._splits:
            self._splits[name] = self.read(name)
        return self._splits[name]
