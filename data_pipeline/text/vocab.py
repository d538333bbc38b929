"""WordPiece vocabularies: read, write, hash, train."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from data_pipeline.base.errors import UserError
from data_pipeline.base.files import write_atomically

SPECIAL = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}


def read(path: Path | str) -> list[str]:
    """Tokens of a vocab.txt, one a line, in the order of their ids; or of a tokenizer.json.

    UserError when it cannot be read, when a token occurs twice or when a special one is absent.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot read the vocabulary: {error}") from None
    if path.suffix == ".json":
        tokens = _of_tokenizer_json(text, path)
    else:
        # Only "\n" ends a line: the published vocabularies have tokens such as U+2028.
        tokens = text.removesuffix("\n").replace("\r\n", "\n").split("\n")
    absent = [token for token in SPECIAL.values() if token not in tokens]
    if absent:
        raise UserError(f"{path}: no {', '.join(absent)}; is this a BERT vocab.txt?")
    twice = [token for token, count in Counter(tokens).items() if count > 1]
    if twice:
        raise UserError(f"{path}: {twice[0]!r} occurs twice")
    return tokens


def _of_tokenizer_json(text: str, path: Path) -> list[str]:
    """Tokens of a file of the `tokenizers` library; UserError unless it is WordPiece."""
    try:
        values = json.loads(text)
        kind, ids = values["model"].get("type"), dict(values["model"]["vocab"])
        ids |= {added["content"]: added["id"] for added in values.get("added_tokens") or ()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: not a tokenizer with a vocabulary: {error!r}") from None
    if kind != "WordPiece":
        raise UserError(f"{path}: a {kind} tokenizer; only WordPiece (BERT's) is supported")
    if sorted(ids.values()) != list(range(len(ids))):
        raise UserError(f"{path}: the ids are not 0 to {len(ids) - 1}, each once")
    return sorted(ids, key=ids.__getitem__)


def write(path: Path, tokens: Iterable[str]) -> None:
    """Write a vocab.txt whole."""
    write_atomically(path, "".join(f"{token}\n" for token in tokens))


def sha256(tokens: Iterable[str]) -> str:
    """Digest of the tokens in order; line ends do not matter."""
    return hashlib.sha256("\n".join(tokens).encode()).hexdigest()


def special_ids(tokens: list[str]) -> dict[str, int]:
    """{"pad": 0, "unk": ...}."""
    return {name: tokens.index(token) for name, token in SPECIAL.items()}


def train(characters: Counter, words: Counter, size: int, min_count: int) -> list[str]:
    """A WordPiece vocabulary of at most `size` tokens, the same for the same counts.

    characters: counts of the characters that stand alone (Han, punctuation); words: counts of what
    stands between them (Latin, digits, kana), normalised. Characters come first, by their counts,
    and take at most three quarters of the room; pieces of words, found by the `tokenizers`
    library's WordPiece trainer, take the rest.
    """
    letters: Counter = Counter()
    for word, count in words.items():
        for letter in word:
            letters[letter] += count
    wanted = {c for c in letters if letters[c] >= min_count}
    room = size - len(SPECIAL)
    alphabet = _common(letters, min_count, room // 4)
    alone = _common(
        Counter({c: n for c, n in characters.items() if c not in wanted}),
        min_count,
        room * 3 // 4 - 2 * len(alphabet),
    )
    base = [*SPECIAL.values(), *alone, *alphabet, *(f"##{letter}" for letter in alphabet)]
    return _with_pieces(base, set(alphabet), words, size, min_count)


def _common(counts: Counter, min_count: int, most: int) -> list[str]:
    """Keys by falling count, ties by code point."""
    frequent = [key for key, count in counts.items() if count >= min_count]
    return sorted(frequent, key=lambda key: (-counts[key], key))[: max(most, 0)]


def _with_pieces(
    base: list[str], alphabet: set[str], words: Counter, size: int, min_count: int
) -> list[str]:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    usable = Counter({w: n for w, n in words.items() if alphabet.issuperset(w) and len(w) <= 32})
    tokenizer = Tokenizer(models.WordPiece(unk_token=SPECIAL["unk"]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        min_frequency=min_count,
        special_tokens=base,  # all single letters, so that their ids do not depend on hashing
        limit_alphabet=0,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_repeated(usable), trainer)
    tokens = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return [token for token, _ in tokens]


def _repeated(words: Counter) -> Iterable[str]:
    """Lines in which each word stands as often as it was counted."""
    for word in sorted(words):
        count = words[word]
        while count > 0:
            yield " ".join([word] * min(count, 1000))
            count -= 1000
