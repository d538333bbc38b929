"""The cleaning rules. Each is a function and one entry in a table; the recipe's switches under
`clean` derive from the tables.

`DOCUMENT_RULES` change a document: from its text to (new text, number of places changed). They are
applied in the order of the table; none but `html` and `control` touches line ends.
`SENTENCE_RULES` reject a sentence: from (sentence, settings) to whether it is rejected. The first
that rejects is the one that is counted.
"""

import html
import re
from collections.abc import Callable
from functools import lru_cache
from itertools import zip_longest
from typing import NamedTuple, Protocol

from data_pipeline.text.characters import count_han
from data_pipeline.text.vocab import SPECIAL

MARKUP = re.compile(
    r"<!--.*?-->|<!DOCTYPE[^<>]*>|<(script|style)\b[^<>]*>.*?</\1\s*>"
    r"|</?[A-Z][A-Z0-9:-]*"  # a tag: its name, attributes; not the `<b 且 c>` of a formula
    r"(?:\s+[A-Z_:@][A-Z0-9_:.-]*(?:\s*=\s*(?:\"[^\"<>]*\"|'[^'<>]*'|[^\s\"'<>]+))?)*\s*/?>",
    re.DOTALL | re.IGNORECASE,
)
ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
CONTROL = re.compile(
    "[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f"  # C0 and C1; blanks and line ends stay
    "\xad\u061c\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"
    "\ufff0-\ufffd\ufffe\uffff\ue000-\uf8ff\ud800-\udfff"
    "\U000e0000-\U000e0fff\U000f0000-\U0010ffff]"
)
# With full-width brackets too: a later folding may make them plain ones.
SPECIAL_TOKEN = re.compile(
    "[\\[［](?:" + "|".join(token.strip("[]") for token in SPECIAL.values()) + ")[\\]］]"
)
MAX_PASSES = 4
URL = re.compile(r"(?:https?://|ftp://|www\.)[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+", re.ASCII)
EMAIL = re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+")
# Mobile and resident identity numbers of mainland China (GB 11643: 17 digits and a check digit).
PERSONAL_NUMBER = re.compile(r"(?<!\d)(?:1[3-9]\d{9}|\d{6}(?:19|20)\d{9}[\dXx])(?!\d)", re.ASCII)
FULL_WIDTH = re.compile("[\uff10-\uff19\uff21-\uff3a\uff41-\uff5a\u3000]")
FOLDED = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20}
LINE_END = re.compile("\r\n|[\r\x85\u2028\u2029]")
BLANKS = re.compile("[ \t\xa0\u1680\u2000-\u200a\u202f\u205f\u3000]+")
SURROGATE = re.compile("[\ud800-\udfff]")  # U+DC80 to U+DCFF stand for an undecodable byte each


class SentenceLimits(Protocol):
    """What the sentence rules need of the recipe."""

    @property
    def min_chars(self) -> int: ...

    @property
    def min_sentence_chinese_share(self) -> float: ...


class DocumentRule(NamedTuple):
    """An entry of the table of document rules."""

    apply: Callable[[str], tuple[str, int]]
    on_by_default: bool


def remove_undecodable(text: str) -> tuple[str, int]:
    """Remove bytes that are not text in the encoding of the file, and halves of characters."""
    return SURROGATE.subn("", text) if SURROGATE.search(text) else (text, 0)


def remove_html(text: str) -> tuple[str, int]:
    """Remove tags, comments and scripts; replace `&amp;` and the like by their characters."""
    changed = 0
    if "<" in text:
        text, changed = MARKUP.subn(" ", text)
    for _ in range(2 if "&" in text else 0):  # some texts are escaped twice
        text, entities = _replace_entities(text)
        changed += entities
    return text, changed


def _replace_entities(text: str) -> tuple[str, int]:
    changed = 0

    def character(match: re.Match) -> str:
        nonlocal changed
        new = html.unescape(match[0])
        changed += new != match[0]
        return new

    return ENTITY.sub(character, text), changed


def remove_control(text: str) -> tuple[str, int]:
    """Remove control, zero-width, direction and private-use characters, and NUL; one kind of line
    end."""
    return CONTROL.subn("", LINE_END.sub("\n", text))


def remove_special_tokens(text: str) -> tuple[str, int]:
    """Remove a literal `[MASK]` and the like, which the tokenizer would take for the real one."""
    changed = passes = 0
    while "[" in text or "［" in text:
        # Removing it from `[MA[MASK]SK]` makes another. A space cannot, so the number of passes
        # over a text that is made of such nests stays bounded.
        text, count = SPECIAL_TOKEN.subn("" if passes < MAX_PASSES else " ", text)
        changed += count
        passes += 1
        if not count:
            break
    return text, changed


def fold_width(text: str) -> tuple[str, int]:
    """Full-width Latin letters, digits and spaces to ASCII. Chinese punctuation stays as it is."""
    return FULL_WIDTH.subn(lambda match: chr(FOLDED[ord(match[0])]), text)


def remove_urls(text: str) -> tuple[str, int]:
    """Remove web addresses."""
    return URL.subn("", text) if "://" in text or "www." in text else (text, 0)


def remove_personal_data(text: str) -> tuple[str, int]:
    """Remove e-mail addresses, mobile numbers and resident identity numbers."""
    text, emails = EMAIL.subn("", text) if "@" in text else (text, 0)
    text, numbers = PERSONAL_NUMBER.subn("", text)
    return text, emails + numbers


def simplify(text: str) -> tuple[str, int]:
    """Traditional characters to simplified ones by OpenCC, whose phrases decide where a character
    alone cannot (乾燥, but 乾隆)."""
    changed = _opencc()(text)
    if changed == text:
        return text, 0
    return changed, sum(a != b for a, b in zip_longest(text, changed))


@lru_cache(maxsize=1)
def _opencc() -> Callable[[str], str]:
    import opencc

    return opencc.OpenCC("t2s").convert


def join_blanks(text: str) -> tuple[str, int]:
    """Several blanks in a row become one space."""
    return BLANKS.subn(" ", text)


DOCUMENT_RULES: dict[str, DocumentRule] = {
    "html": DocumentRule(remove_html, True),
    "control": DocumentRule(remove_control, True),
    "width": DocumentRule(fold_width, True),
    "special_tokens": DocumentRule(remove_special_tokens, True),  # after width: ＭＡＳＫ is MASK
    "urls": DocumentRule(remove_urls, False),
    "personal_data": DocumentRule(remove_personal_data, False),
    "simplify": DocumentRule(simplify, False),
    "blanks": DocumentRule(join_blanks, True),
}


def is_too_short(sentence: str, limits: SentenceLimits) -> bool:
    """Fewer than `min_chars` characters, blanks not counted."""
    return len(sentence) - sentence.count(" ") < limits.min_chars


def is_not_chinese(sentence: str, limits: SentenceLimits) -> bool:
    """A smaller share of Han characters than `min_sentence_chinese_share`."""
    return han_share_below([sentence], limits.min_sentence_chinese_share)


def han_share_below(sentences: list[str], share: float) -> bool:
    """Whether less than `share` of the characters are Han, blanks not counted."""
    if not share:
        return False
    size = sum(len(sentence) - sentence.count(" ") for sentence in sentences)
    return sum(map(count_han, sentences)) < share * size


SENTENCE_RULES: dict[str, Callable[[str, SentenceLimits], bool]] = {
    "too_short": is_too_short,
    "not_chinese": is_not_chinese,
}


def rejection(sentence: str, limits: SentenceLimits) -> str | None:
    """Name of the first sentence rule that rejects a sentence; None when it stays."""
    for name, rejects in SENTENCE_RULES.items():
        if rejects(sentence, limits):
            return name
    return None
