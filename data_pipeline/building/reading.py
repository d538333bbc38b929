"""The first step of a build: one piece of the sources to cleaned text, hashes and counts."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from data_pipeline.base.errors import UserError
from data_pipeline.base.files import write_json
from data_pipeline.building import dedup, spill
from data_pipeline.building.plan import Plan
from data_pipeline.sources import streams
from data_pipeline.sources.inputs import read_documents
from data_pipeline.text import clean
from data_pipeline.text.encode import Splitter

WORDS_KEPT = 1 << 17
COUNTERS = (*clean.COUNTERS, "documents_in", "records_bad", "files_damaged")


def read(build: Plan, piece: int) -> dict[str, Any]:
    """Clean one piece.

    Leaves .txt.zst with the sentences, .exact.npy and .near.npy with their hashes as far as the
    recipe wants duplicates out, and .counts.json when the vocabulary is trained on this piece.
    """
    counters: Counter = Counter(dict.fromkeys(COUNTERS, 0))
    damaged: list[str] = []
    hashes = Hashes(build)
    tally = Tally(build.recipe.vocab.lower_case) if is_sample(build, piece) else None
    cleaned = (
        clean.clean(text, build.recipe.clean, counters)
        for text in _documents(build, piece, counters, damaged)
    )
    with spill.writer(build.file("read", piece, ".txt.zst")) as write:
        for block in spill.blocks(cleaned):
            write(block)
            hashes.add(block)
            if tally is not None:
                tally.add("\n".join(sentence for document in block for sentence in document))
    hashes.save(piece)
    if tally is not None:
        write_json(build.file("read", piece, ".counts.json"), tally.counts())
    counters["documents_without_sentence"] = counters["documents_in"] - hashes.documents
    return {
        "counters": dict(counters),
        "sentences": hashes.sentences,
        "near_records": sum(map(len, hashes.near)),
        "damaged": damaged,
    }


def is_sample(build: Plan, piece: int) -> bool:
    """Whether the vocabulary is trained on this piece (among others)."""
    train = build.recipe.vocab.train
    return train is not None and piece % max(1, round(build.bytes / 1e6 / train.sample_mb)) == 0


def _documents(build: Plan, piece: int, counters: Counter, damaged: list[str]) -> Iterator[str]:
    for part in build.pieces[piece]:
        entry = build.inputs[part.input]
        source = build.recipe.sources[entry.source]
        try:
            for text in read_documents(entry, part, source, counters):
                counters["documents_in"] += 1
                yield text
        except streams.Damaged as error:
            if build.recipe.run.damaged_files == "stop":
                raise UserError(
                    f"{entry.path}: damaged: {error}. Mend it, or use what is readable of such "
                    "files with --run.damaged_files skip; what is finished is kept"
                ) from error
            counters["files_damaged"] += 1
            damaged.append(entry.path)


class Hashes:
    """Collects what finding duplicates needs of a piece, and numbers documents and sentences."""

    def __init__(self, build: Plan):
        self._build = build
        self._settings = build.recipe.dedup
        self.documents = self.sentences = 0
        self.exact: list[np.ndarray] = []
        self.near: list[np.ndarray] = []

    def add(self, block: list[spill.Document]) -> None:
        """The next documents of the piece."""
        sizes = [len(document) for document in block]
        if self._settings.exact:
            flat = [sentence for document in block for sentence in document]
            found = dedup.exact_records(flat, np.repeat(np.arange(len(block)), sizes))
            found["item"] += self.sentences
            found["document"] += self.documents
            self.exact.append(found)
        if self._settings.near:
            texts = ["".join(document) for document in block]
            threshold, permutations = (
                self._settings.near_threshold,
                self._settings.near_permutations,
            )
            found = dedup.near_records(texts, threshold, permutations)
            found["item"] += self.documents
            found["document"] += self.documents
            self.near.append(found)
        self.documents += len(block)
        self.sentences += sum(sizes)

    def save(self, piece: int) -> None:
        """Write what was collected, sorted by hash."""
        for name, parts in (("exact", self.exact), ("near", self.near)):
            if getattr(self._settings, name):
                joined = np.concatenate([np.zeros(0, dedup.RECORD), *parts])
                dedup.save(self._build.file("read", piece, f".{name}.npy"), dedup.by_hash(joined))


class Tally:
    """Counts lone characters and the words between them, for training a vocabulary."""

    def __init__(self, lower_case: bool):
        self._splitter = Splitter(ord, lower_case)
        self.characters: Counter = Counter()
        self._runs: Counter = Counter()
        self._words: Counter = Counter()

    def add(self, text: str) -> None:
        """Count one block."""
        kinds, _, _, runs = self._splitter.split(text)
        codes, counts = np.unique(kinds[kinds >= 0], return_counts=True)
        self.characters.update(dict(zip(map(chr, codes.tolist()), counts.tolist(), strict=True)))
        self._runs.update(runs)
        if len(self._runs) > WORDS_KEPT:
            self._fold()

    def counts(self) -> dict[str, dict[str, int]]:
        """{"characters": ..., "words": ...}; of the words, the most frequent."""
        self._fold()
        return {"characters": dict(self.characters), "words": kept(self._words)}

    def _fold(self) -> None:
        for run, count in self._runs.items():
            for word in self._splitter.words(run):
                self._words[word] += count
        self._runs.clear()
        self._words = Counter(kept(self._words, 4 * WORDS_KEPT))


def kept(words: Counter, most: int = WORDS_KEPT) -> dict[str, int]:
    """The `most` frequent words, ties by spelling: memory stays bounded."""
    if len(words) <= most:
        return dict(words)
    return dict(sorted(words.items(), key=lambda item: (-item[1], item[0]))[:most])
