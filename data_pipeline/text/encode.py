"""Text to WordPiece ids: those of PaddleNLP's BertTokenizer, at many times its speed.

In Chinese text nearly every character is a token of its own, whatever its neighbours. So a table
gives the id of every such code point at once (numpy), and only the runs between them (Latin,
digits, kana) go through WordPiece, whose results are cached by run.

Reference: paddlenlp 2.8.1, transformers/bert/tokenizer.py and tokenizer_utils.py.
"""

import re
import unicodedata
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import numpy as np

from data_pipeline.text import tokenizer, vocab
from data_pipeline.text.characters import is_han

# What a code point is, where it is not an id (>= 0).
RUN = -1  # part of a run that WordPiece looks at as a whole
SPACE = -2  # ends a run, gives no token
DROP = -3  # as if it were not there
UNSEEN = -4  # not looked at yet

LONGEST_WORD = 100  # characters; longer ones are [UNK], as in the reference
RUNS_KEPT = 1 << 16  # about 10 MB


class Splitter:
    """Cuts text as BERT's basic tokenizer does, into lone characters and runs.

    number: what stands for a lone character, an id say; asked once for each.
    do_lower_case: also strip accents, as the uncased models want (all Chinese ones do).
    """

    def __init__(self, number: Callable[[str], int], do_lower_case: bool = True):
        self.do_lower_case = do_lower_case
        self._number = number
        self._kinds = np.full(0x110000, UNSEEN, np.int32)

    def split(self, text: str) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, list[str]]:
        """(kinds int32 [n], where int64 [n] or None, starts int64 [runs], runs).

        kinds: of the characters that are not dropped, a number, RUN or SPACE; where: their index
        in `text`, None when nothing was dropped; starts: where in `kinds` each run begins.
        """
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
        kinds = self._kinds[codes]
        if (kinds == UNSEEN).any():
            for code in np.unique(codes[kinds == UNSEEN]).tolist():
                self._kinds[code] = self._kind(chr(code))
            kinds = self._kinds[codes]
        where = None
        if (kinds == DROP).any():
            where = np.flatnonzero(kinds != DROP)
            kinds = kinds[where]
            text = codes[where].astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")
        is_run = np.zeros(len(kinds) + 2, np.int8)
        is_run[1:-1] = kinds == RUN
        edges = np.diff(is_run)
        starts, stops = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
        runs = [text[a:b] for a, b in zip(starts.tolist(), stops.tolist(), strict=True)]
        return kinds, where, starts, runs

    def words(self, run: str) -> list[str]:
        """The words that WordPiece gets of a run, lower-cased and without accents."""
        lowered = "".join(c.lower() for c in run) if self.do_lower_case else run
        return split_on_punctuation(self._normal(cleaned(lowered)))

    def parts(self, char: str) -> list[tuple[str, bool]]:
        """What one character becomes: (character, whether it is a word of its own) of each part.

        [] where it is dropped; a blank is [(" ", True)].
        """
        text = cleaned(char.lower() if self.do_lower_case else char)
        if text.isspace():
            return [(" ", True)]
        alone = bool(text) and is_han(text[0])
        return [
            (" ", True) if c.isspace() else (c, alone or is_punctuation(c) or is_symbol(c))
            for c in self._normal(text)
        ]

    def _kind(self, char: str) -> int:
        parts = self.parts(char)
        if not parts:
            return DROP
        if parts == [(" ", True)]:
            return SPACE
        if len(parts) == 1 and parts[0][1]:
            return self._number(parts[0][0])
        return RUN

    def _normal(self, text: str) -> str:
        if not self.do_lower_case:
            return text
        decomposed = unicodedata.normalize("NFD", text.lower())
        return "".join(c for c in decomposed if unicodedata.category(c) != "Mn")


class WordPieceEncoder:
    """Encodes with the vocabulary of a vocab.txt (or tokenizer.json)."""

    @classmethod
    def of_directory(cls, directory: Path | str) -> "WordPieceEncoder":
        """The encoder of a model directory, by its vocabulary and its tokenizer_config.json."""
        return cls(tokenizer.vocabulary_file(directory), tokenizer.is_lower_case(directory))

    def __init__(self, vocab_file: Path | str, do_lower_case: bool = True):
        self.tokens = vocab.read(vocab_file)
        self.special_ids = vocab.special_ids(self.tokens)
        self._ids = {token: i for i, token in enumerate(self.tokens)}
        self._unk = self.special_ids["unk"]
        self.splitter = Splitter(lambda char: self._ids.get(char, self._unk), do_lower_case)
        self._runs: dict[str, tuple[int, ...]] = {}
        names = "|".join(re.escape(token) for token in vocab.SPECIAL.values())
        self._special = re.compile(f"({names})")

    def ids(self, texts: list[str]) -> list[np.ndarray]:
        """Ids of each text, int32, without [CLS] and [SEP]."""
        ids, where = self.positions("\n".join(texts))
        ends = np.cumsum([len(text) + 1 for text in texts])
        return np.split(ids, np.searchsorted(where, ends[:-1])) if texts else []

    def positions(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """(ids int32, where int64), both [tokens].

        `where` is the index of the token's character in `text`; the pieces of one run all have
        the index of the run's first character.
        """
        if "[" not in text or self._special.search(text) is None:
            return self._plain(text)
        parts, start = [], 0
        for piece in self._special.split(text):
            ids, where = self._plain_or_special(piece)
            parts.append((ids, where + start))
            start += len(piece)
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])

    def words_and_ids(
        self, text: str, boundaries: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(ids int32, word_start uint8, where int64), all [tokens].

        boundaries: bool [len(text)], true where a word begins. A token begins a word when it lies
        in another word than the token before it; later pieces of a run never do.
        """
        ids, where = self.positions(text)
        word = np.cumsum(boundaries)[where] if len(text) else where
        starts = np.ones(len(ids), np.uint8)
        starts[1:] = (word[1:] != word[:-1]) & (where[1:] != where[:-1])
        return ids, starts, where

    def classify(
        self, texts: list[str], pairs: list[str] | None = None, max_length: int = 128
    ) -> tuple[list[list[int]], list[list[int]]]:
        """(input_ids, token_type_ids) of `[CLS] text [SEP]` or `[CLS] text [SEP] pair [SEP]`.

        Cut to `max_length` as PaddleNLP does with truncation="longest_first": from the end, always
        from the longer of the two, from the pair when they are equal.
        """
        cls, sep = self.special_ids["cls"], self.special_ids["sep"]
        first = [ids.tolist() for ids in self.ids(texts)]
        if pairs is None:
            rows = [[cls, *ids[: max_length - 2], sep] for ids in first]
            return rows, [[0] * len(row) for row in rows]
        input_ids, token_type_ids = [], []
        for a, b in zip(first, self.ids(pairs), strict=True):
            keep_a, keep_b = longest_first(len(a), len(b), max_length - 3)
            input_ids.append([cls, *a[:keep_a], sep, *b[:keep_b].tolist(), sep])
            token_type_ids.append([0] * (keep_a + 2) + [1] * (keep_b + 1))
        return input_ids, token_type_ids

    def _plain_or_special(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        if self._special.fullmatch(text):
            return np.array([self._ids[text]], np.int32), np.zeros(1, np.int64)
        return self._plain(text)

    def _plain(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        kinds, where, starts, runs = self.splitter.split(text)
        pieces = [self._runs.get(run) or self._pieces(run) for run in runs]
        count = (kinds >= 0).astype(np.int64)  # tokens that each character gives
        count[starts] = [len(piece) for piece in pieces]
        at = np.repeat(np.arange(len(kinds)), count)
        ids = kinds[at]
        ids[ids == RUN] = np.fromiter(chain.from_iterable(pieces), np.int32)
        return ids, at if where is None else where[at]

    def _pieces(self, run: str) -> tuple[int, ...]:
        if len(self._runs) >= RUNS_KEPT:
            self._runs.clear()
        words = self.splitter.words(run)
        ids = tuple(chain.from_iterable(wordpiece(w, self._ids, self._unk) for w in words))
        self._runs[run] = ids
        return ids


def cleaned(text: str) -> str:
    """Without control characters, and every kind of blank a space."""
    out = []
    for char in text:
        if char in "\t\n\r":
            out.append(" ")
        elif char not in "\0\ufffd" and not (kind := unicodedata.category(char)).startswith("C"):
            out.append(" " if kind == "Zs" else char)
    return "".join(out)


def is_punctuation(char: str) -> bool:
    """ASCII that is neither letter nor digit counts, `$` and `^` among it."""
    return ("!" <= char <= "~" and not char.isalnum()) or unicodedata.category(char)[0] == "P"


def is_symbol(char: str) -> bool:
    """Unicode's symbols and a few that the reference counts as such."""
    return unicodedata.category(char)[0] == "S" or char in "\u00ad²ºµØŋƱ〇"


def split_on_punctuation(text: str) -> list[str]:
    """Words; each punctuation mark or symbol is a word of its own."""
    marked = (f" {c} " if is_punctuation(c) or is_symbol(c) else c for c in text)
    return "".join(marked).split()


def wordpiece(word: str, ids: dict[str, int], unk: int) -> list[int]:
    """Greedy longest match first; [unk] when some part has no match or the word is too long."""
    if len(word) > LONGEST_WORD:
        return [unk]
    pieces, start = [], 0
    while start < len(word):
        prefix = "##" if start else ""
        for end in range(len(word), start, -1):
            piece = ids.get(prefix + word[start:end])
            if piece is not None:
                break
        else:
            return [unk]
        pieces.append(piece)
        start = end
    return pieces


def longest_first(a: int, b: int, room: int) -> tuple[int, int]:
    """How much of two sequences of a and b tokens fits into `room` tokens."""
    if a + b <= room:
        return a, b
    small = room // 2
    if a <= small:
        return a, room - a
    if b <= small:
        return room - b, b
    return room - small, small  # cut at the pair first, so that the text keeps the odd one
