"""The one shape that every classification task has once it is read."""

from collections.abc import Callable
from dataclasses import dataclass, field

from data_pipeline.base.errors import UserError

SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class Example:
    """One sentence or pair; `label` indexes `Task.labels` and is None where none is known."""

    text: str
    pair: str | None = None
    label: int | None = None


@dataclass
class Task:
    """A classification task; splits are read when they are first asked for.

    `read(split)` returns the examples of "train", "dev" or "test", or None when the task has no
    such split with labels.
    """

    name: str
    labels: list[str]
    read: Callable[[str], list[Example] | None]
    max_length: int = 128
    _splits: dict[str, list[Example] | None] = field(default_factory=dict)

    def has(self, split: str) -> bool:
        """Is the split there, with labels?"""
        return self._get(split) is not None

    def split(self, name: str) -> list[Example]:
        """Labelled examples of a split; UserError when there are none."""
        examples = self._get(name)
        if not examples:
            raise UserError(f"task {self.name}: no labelled {name} examples")
        return examples

    def held_out(self) -> list[Example]:
        """What a finished model is judged by: test where it has labels, else dev (as CLUE does)."""
        return self.split("test" if self.has("test") else "dev")

    def _get(self, name: str) -> list[Example] | None:
        if name not in SPLITS:
            raise UserError(f"unknown split {name!r}: one of {', '.join(SPLITS)}")
        if name not in self._splits:
            self._splits[name] = self.read(name)
        return self._splits[name]
