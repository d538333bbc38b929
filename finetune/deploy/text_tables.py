"""A WordPiece tokenizer as tables of numbers, for a graph that computes ids from characters.

Every character belongs to a class: all that become the same are one class. A class becomes a few
symbols, and runs of symbols are matched with the vocabulary by a trie.

    symbol    meaning
    < 0       a word of its own: -(id + 1)
    0         nothing
    1         a blank, or the end of a text
    2         part of a run, and in no token: the run is [UNK]
    3, 4...   part of a run
"""

import functools
import sys
import unicodedata
from dataclasses import dataclass

import numpy as np

from data_pipeline.text import vocab
from data_pipeline.text.characters import is_han
from data_pipeline.text.encode import Splitter, WordPieceEncoder, is_punctuation, is_symbol

NOTHING, BLANK, STRANGE, FIRST = 0, 1, 2, 3  # symbols
DROPPED = 0  # the class of characters that are in no table, and of padding
DEAD, WORD, INSIDE = 0, 1, 2  # states of the trie: no match, before a word, before a ## piece


@dataclass(frozen=True)
class Tables:
    """What `text_graph` needs of a tokenizer."""

    classes: dict[str, int]
    """Of every character that is not dropped."""
    symbols: np.ndarray
    """int64 [classes, parts]: what a class becomes, filled up with NOTHING."""
    special: dict[str, tuple[int, list[int]]]
    """(id, classes of its characters) of every special token that texts may hold."""
    ids: dict[str, int]
    """Of the special tokens by their role: pad, unk, cls, sep, mask."""
    steps: dict[int, int]
    """Trie: state x alphabet + symbol -> next state."""
    accepted: np.ndarray
    """int64 [states]: id of the token that ends in a state, else -1."""
    alphabet: int
    """One more than the largest symbol."""
    longest: int
    """Characters of the longest token in the trie."""


def tables_of(encoder: WordPieceEncoder) -> Tables:
    """The tables that give the same ids as an encoder."""
    ids = {token: number for number, token in enumerate(encoder.tokens)}
    unknown = encoder.special_ids["unk"]
    trie = _Trie(ids)

    def symbol(part: str, alone: bool) -> int:
        if part == " ":
            return BLANK
        return -(ids.get(part, unknown) + 1) if alone else trie.symbols.get(part, STRANGE)

    in_special = set("".join(vocab.SPECIAL.values()))
    numbers: dict[tuple, int] = {((), ""): DROPPED}
    classes = {}
    for char, parts in _parts_of_characters(encoder.splitter.do_lower_case):
        becomes = tuple(symbol(*part) for part in parts)
        if set(becomes) == {STRANGE}:
            becomes = (STRANGE,)
        # special tokens are found before text is lower-cased
        key = (becomes, char if char in in_special else "")
        if key != ((), ""):
            classes[char] = numbers.setdefault(key, len(numbers))
    symbols = np.zeros((len(numbers), max(len(becomes) for becomes, _ in numbers)), np.int64)
    for (becomes, _), number in numbers.items():
        symbols[number, : len(becomes)] = becomes
    special = {
        token: (ids[token], [classes[char] for char in token]) for token in vocab.SPECIAL.values()
    }
    return Tables(
        classes,
        symbols,
        special,
        encoder.special_ids,
        trie.steps,
        np.asarray(trie.accepted, np.int64),
        trie.alphabet,
        trie.longest,
    )


@functools.cache
def _parts_of_characters(lower_case: bool) -> list[tuple[str, list[tuple[str, bool]]]]:
    """`Splitter.parts` of every character of Unicode that may be something; takes seconds."""
    splitter = Splitter(ord, lower_case)
    dropped = ("Cn", "Co", "Cs")  # most code points
    characters = (chr(code) for code in range(sys.maxunicode + 1))
    return [(c, splitter.parts(c)) for c in characters if unicodedata.category(c) not in dropped]


class _Trie:
    """Those tokens of a vocabulary that can be part of a run."""

    def __init__(self, ids: dict[str, int]):
        pieces = {}
        for token, number in ids.items():
            root, piece = (INSIDE, token[2:]) if token.startswith("##") else (WORD, token)
            if piece and all(map(_in_runs, piece)):
                pieces[root, piece] = number
        characters = sorted(set("".join(piece for _, piece in pieces)))
        self.symbols = {char: number for number, char in enumerate(characters, FIRST)}
        self.alphabet = FIRST + len(characters)
        self.longest = max((len(piece) for _, piece in pieces), default=1)
        self.steps: dict[int, int] = {}
        self.accepted = [-1, -1, -1]  # of DEAD, WORD and INSIDE
        for (root, piece), number in pieces.items():
            state = root
            for char in piece:
                step = state * self.alphabet + self.symbols[char]
                state = self.steps.setdefault(step, len(self.accepted))
                if state == len(self.accepted):
                    self.accepted.append(-1)
            self.accepted[state] = number


def _in_runs(char: str) -> bool:
    alone = is_han(char) or is_punctuation(char) or is_symbol(char)
    return not alone and not char.isspace() and not unicodedata.category(char).startswith("C")
