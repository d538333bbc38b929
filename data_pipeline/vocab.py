"""WordPiece vocabularies: read, write, hash, train."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from data_pipeline.base.errors import UserError
from data_pipeline.base.files import write_atomically

SPECIAL = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}


def read(path: Path | str) -> list[str]:
    """Tokens of a vocab.txt, one a line, in the order of their ids.

    UserError when it cannot be read, when a token occurs twice or when a special one is absent.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot read the vocabulary: {error}") from None
    # Only "\n" ends a line: the published vocabularies have tokens such as U+2028.
    tokens = text.removesuffix("\n").replace("\r\n", "\n").split("\n")
    absent = [token for token in SPECIAL.values() if token not in tokens]
    if absent:
        raise UserError(f"{path}: no {', '.join(absent)}; is this a BERT vocab.txt?")
    twice = [token for token, count in Counter(tokens).items() if count > 1]
    if twice:
        raise UserError(f"{path}: {twice[0]!r} stands there twice")
    return tokens


def write(path: Path, tokens: Iterable[str]) -> None:
    """Write a vocab.txt whole."""
    write_atomically(path, "".join(f"{token}\n" for token in tokens))


def sha256(tokens: Iterable[str]) -> str:
    """Digest of the tokens in order; line ends do not matter."""
    return hashlib.sha256("\n".join(tokens).encode()).hexdigest()


def special_ids(tokens: list[str]) -> dict[str, int]:
    """{"pad": 0, "unk": ...}."""
    return {name: tokens.index(token) for name, token in SPECIAL.items()}
