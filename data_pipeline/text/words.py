"""Where words begin, as jieba cuts them.

jieba (Python) is the reference. rjieba is the same algorithm and dictionary in Rust, about fifteen
times faster, and so the default. How far its words are jieba's (F1, jieba 0.42.1, rjieba 0.2.2):

    iNEWS, 0.8 M characters             0.998   (1.000 on its Han characters alone)
    shop reviews, 0.5 M                 0.9995  (1.000)
    People's Daily, 0.4 M               1.000   (1.000)

What differs are runs of ASCII. With the hidden Markov model off they are the same; but on or off
changes words (F1 0.94 to 0.97), so the setting is part of the recipe.
"""

import logging
import re
from collections.abc import Callable, Iterable
from itertools import accumulate, pairwise

import numpy as np

SEGMENTERS = ("rjieba", "jieba")
LONGEST_RUN = 4096  # jieba takes quadratic time on long runs of unknown characters: 40,000 need 4 s


def segmenter(name: str, hmm: bool = True) -> Callable[[str], list[str]]:
    """A function from text to its words, whose concatenation is the text.

    hmm: let a hidden Markov model find words that the dictionary lacks; it changes boundaries.
    """
    if name == "rjieba":
        import rjieba

        return lambda text: rjieba.cut(text, hmm)
    import jieba

    jieba.setLogLevel(logging.WARNING)
    return lambda text: jieba.lcut(text, HMM=hmm)


def boundaries(text: str, cut: Callable[[str], list[str]]) -> np.ndarray:
    """bool [len(text)]: true where a word begins. A line end is a word of its own."""
    starts = np.zeros(len(text), bool)
    start = 0
    for part in capped(text):
        lengths = np.fromiter(map(len, cut(part)), np.int64)
        ends = np.cumsum(lengths)
        if len(ends) and ends[-1] != len(part):
            raise RuntimeError(f"the segmenter changed the text {part[:40]!r}...")
        starts[start + ends - lengths] = True
        start += len(part)
    return starts


def capped(text: str, longest: int = LONGEST_RUN) -> list[str]:
    """The text in parts none of whose lines has more than `longest` characters."""
    if len(text) <= longest or max(map(len, text.split("\n"))) <= longest:
        return [text]
    return re.findall(rf"[^\n]{{1,{longest}}}\n?|\n", text)


def agreement(reference: Iterable[list[str]], other: Iterable[list[str]]) -> float:
    """F1 of `other`'s words against the reference's, over two cuttings of the same texts."""
    right = total = 0
    for ours, theirs in zip(reference, other, strict=True):
        a, b = _spans(ours), _spans(theirs)
        right += 2 * len(a & b)
        total += len(a) + len(b)
    return right / total if total else 1.0


def _spans(words: list[str]) -> set[tuple[int, int]]:
    return set(pairwise(accumulate(map(len, words), initial=0)))
