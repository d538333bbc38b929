"""Texts of tasks kept out of pre-training text.

A text of a task (dev or test; of a record each of the `fields` is one) is compared by its letters
and digits only, in lower case, without blanks and punctuation. Every run of 13 characters of it
that occurs in the corpus removes the sentences that it touches; a text of fewer than 13 characters
removes the sentences that equal it. Thirteen as in Brown et al. 2020, appendix C, there counted in
words.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

from data_pipeline.base.files import whole_file
from data_pipeline.building import spill
from data_pipeline.building.documents import ReadReport, documents_of
from data_pipeline.building.excluded import Report
from data_pipeline.building.plan import Plan, modification_time
from data_pipeline.sources.inputs import find_inputs, make_parts
from data_pipeline.sources.settings import TaskSource
from data_pipeline.text.runs import run_hashes, whole_hash

GRAM = 13  # characters


class TaskTexts:
    """Sorted hashes of the texts of all tasks, and which task each belongs to."""

    def __init__(self, names: list[str], hashes: np.ndarray, owners: np.ndarray):
        self.names = names
        self._hashes, self._owners = hashes, owners

    def remove(
        self, block: list[spill.Document], counters: Counter, report: Report
    ) -> list[spill.Document]:
        """The block without what overlaps a task; counts the sentences removed for each."""
        sentences = [sentence for document in block for sentence in document]
        owner = self._owners_of(sentences)
        for number, count in enumerate(np.bincount(owner[owner >= 0], minlength=len(self.names))):
            counters[f"sentences_of_task_{self.names[number]}"] += int(count)
        if (owner < 0).all():
            return block
        for number in np.flatnonzero(owner >= 0).tolist():
            report(f"task_{self.names[owner[number]]}", sentences[number])
        flags = iter((owner >= 0).tolist())
        return [[sentence for sentence in document if not next(flags)] for document in block]

    def _owners_of(self, sentences: list[str]) -> np.ndarray:
        """int [n]: the task that each sentence overlaps; -1 for none."""
        owner = np.full(len(sentences), -1, np.int64)
        codes, sentence_of = letters(sentences)
        hashes = run_hashes(codes, GRAM)
        task = self._lookup(hashes)
        for place in np.flatnonzero(task >= 0).tolist():
            owner[sentence_of[place : place + GRAM]] = task[place]
        sizes = np.bincount(sentence_of, minlength=len(sentences))
        for number in np.flatnonzero((sizes > 0) & (sizes < GRAM)).tolist():
            short = self._lookup(whole_hash(codes[sentence_of == number]))
            owner[number] = max(owner[number], int(short[0]))
        return owner

    def _lookup(self, hashes: np.ndarray) -> np.ndarray:
        if len(self._hashes) == 0:
            return np.full(len(hashes), -1, np.int64)
        place = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        return np.where(self._hashes[place] == hashes, self._owners[place], -1)


def letters(sentences: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """(codes uint32 [m], sentence of each int64 [m]) of all letters and digits, lower-cased."""
    lowered = [sentence.lower() for sentence in sentences]
    codes = np.frombuffer("".join(lowered).encode("utf-32-le", "surrogatepass"), np.uint32)
    sentence_of = np.repeat(np.arange(len(lowered)), [len(sentence) for sentence in lowered])
    keep = _is_letter()[codes]
    return codes[keep], sentence_of[keep]


def collect(plan: Plan) -> None:
    """Write the hashes of all task texts into the working directory."""
    path = _file(plan)
    if path.exists():
        return
    hashes, owners = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for number, source in _by_field(plan.recipe.decontaminate):
        inputs = find_inputs((source,))
        for part in make_parts(inputs, (source,), 1 << 62):
            pair = [(inputs[part.input], part)]
            for _, text in documents_of(plan, pair, ReadReport(), (source,)):
                codes, _ = letters([text])
                new = run_hashes(codes, GRAM) if len(codes) >= GRAM else whole_hash(codes)
                if len(codes):
                    hashes.append(new)
                    owners.append(np.full(len(new), number))
    values, first = np.unique(np.concatenate(hashes), return_index=True)
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, hashes=values, owners=np.concatenate(owners)[first])


def _by_field(tasks: Iterable[TaskSource]) -> Iterator[tuple[int, TaskSource]]:
    """(number of the task, task with one of its fields): the two texts of a pair are two texts."""
    for number, task in enumerate(tasks):
        for name in task.fields:
            yield number, task.model_copy(update={"fields": (name,)})


def load(plan: Plan) -> TaskTexts | None:
    """The texts to keep out; None when the recipe names none."""
    if not plan.recipe.decontaminate:
        return None
    names = [source.name for source in plan.recipe.decontaminate]
    path = _file(plan)
    return _load(path, modification_time(path), tuple(names))


@lru_cache(maxsize=1)
def _load(path: Path, _: int, names: tuple[str, ...]) -> TaskTexts:
    with np.load(path) as values:
        return TaskTexts(list(names), values["hashes"], values["owners"])


@lru_cache(maxsize=1)
def _is_letter() -> np.ndarray:
    return np.array([chr(code).isalnum() for code in range(0x110000)])


def _file(plan: Plan) -> Path:
    return plan.folder / plan.id / "task_texts.npz"
