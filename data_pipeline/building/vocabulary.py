"""The vocabulary of a build: the user's file, or one trained on the cleaned text."""

import json
from collections import Counter

import numpy as np

from data_pipeline.building.plan import Plan
from data_pipeline.text import vocab
from data_pipeline.text.encode import Splitter

MAX_WORDS = 1 << 17  # counted at a time; the rarest beyond that are forgotten


def make(plan: Plan) -> None:
    """Write the vocabulary into the working directory, trained if the recipe asks for it."""
    settings, path = plan.recipe.vocab, plan.vocab_file
    if path.exists():
        return
    if settings.file is not None:
        vocab.write(path, vocab.read(settings.file))
        return
    characters: Counter[str] = Counter()
    words: Counter[str] = Counter()
    for piece in range(plan.pieces):
        if is_sampled(plan, piece):
            counts = json.loads(plan.file("read", piece, ".counts.json").read_text())
            characters.update(counts["characters"])
            words.update(counts["words"])
            words = Counter(most_frequent(words, 4 * MAX_WORDS))
    assert settings.train is not None  # a recipe has one of the two
    size, min_count = settings.train.size, settings.train.min_count
    vocab.write(path, vocab.train(characters, words, size, min_count))


def is_sampled(plan: Plan, piece: int) -> bool:
    """Whether the vocabulary is trained on this piece (among others)."""
    train = plan.recipe.vocab.train
    return train is not None and piece % max(1, round(plan.bytes / 1e6 / train.sample_mb)) == 0


class Tally:
    """Counts lone characters and the words between them."""

    def __init__(self, lower_case: bool):
        self._splitter = Splitter(ord, lower_case)
        self._characters: Counter = Counter()
        self._runs: Counter = Counter()
        self._words: Counter = Counter()

    def add(self, text: str) -> None:
        """Count one block."""
        kinds, _, _, runs = self._splitter.split(text)
        codes, counts = np.unique(kinds[kinds >= 0], return_counts=True)
        self._characters.update(dict(zip(map(chr, codes.tolist()), counts.tolist(), strict=True)))
        self._runs.update(runs)
        if len(self._runs) > MAX_WORDS:
            self._count_words()

    def counts(self) -> dict[str, dict[str, int]]:
        """{"characters": ..., "words": ...}; of the words, the most frequent."""
        self._count_words()
        return {"characters": dict(self._characters), "words": most_frequent(self._words)}

    def _count_words(self) -> None:
        for run, count in self._runs.items():
            for word in self._splitter.words(run):
                self._words[word] += count
        self._runs.clear()
        self._words = Counter(most_frequent(self._words, 4 * MAX_WORDS))


def most_frequent(words: Counter, limit: int = MAX_WORDS) -> dict[str, int]:
    """The `limit` most frequent words, ties by spelling: memory stays bounded."""
    if len(words) <= limit:
        return dict(words)
    return dict(sorted(words.items(), key=lambda item: (-item[1], item[0]))[:limit])
