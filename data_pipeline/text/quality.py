"""Document filters by published definitions, adapted from words to Chinese characters.

Each is a function from the sentences of a document to a share between 0 and 1, and an entry in
`SHARES`; the recipe's limits (`clean.quality.max_NAME`) derive from the table.

Rae et al. 2021 (Gopher, arXiv 2112.11446), table A1, drop a document whose duplicate lines are
more than 0.30 of its lines, whose duplicate 10-grams hold more than 0.10 of its characters, or with
a symbol-to-word ratio above 0.1. Words become characters here, so a 10-gram is one of 20
characters: a Chinese word has about two.
"""

from collections import Counter
from collections.abc import Callable

GRAM = 20  # characters
SYMBOLS = set("#…*=_|~^<>{}\\/@$%&+■□●○◆◇★☆►▲▼※→←↑↓")


def repeated_sentences(sentences: list[str]) -> float:
    """Share of the sentences that stood in the document before."""
    return (len(sentences) - len(set(sentences))) / max(len(sentences), 1)


def repeated_characters(sentences: list[str]) -> float:
    """Share of the characters that lie in runs of 20 which occur more than once."""
    text = "".join(sentences)
    places = range(len(text) - GRAM + 1)
    counts = Counter(text[i : i + GRAM] for i in places)
    covered = end = 0
    for i in places:
        if counts[text[i : i + GRAM]] > 1:
            covered += i + GRAM - max(i, end)
            end = i + GRAM
    return covered / max(len(text), 1)


def symbols(sentences: list[str]) -> float:
    """Share of the characters that are signs such as # … * ★, no letters and no punctuation."""
    size = sum(map(len, sentences))
    return sum(char in SYMBOLS for sentence in sentences for char in sentence) / max(size, 1)


SHARES: dict[str, Callable[[list[str]], float]] = {
    "repeated_sentences": repeated_sentences,
    "repeated_characters": repeated_characters,
    "symbols": symbols,
}
PUBLISHED = {"repeated_sentences": 0.3, "repeated_characters": 0.1, "symbols": 0.1}
"""The limits of the paper above."""
