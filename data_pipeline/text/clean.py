"""Cleaning rules: pure functions from text to text and a count, and from sentence to verdict.

`RULES` holds the text rules in their order; each takes a whole document and returns it together
with how many places it changed. Line ends are never touched by them, but for `html`.
"""

import html
import re
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from itertools import zip_longest

from data_pipeline.recipe import Clean
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
SPECIAL_TOKEN = re.compile("|".join(map(re.escape, SPECIAL.values())))
FULL_WIDTH = re.compile("[\uff10-\uff19\uff21-\uff3a\uff41-\uff5a\u3000]")
FOLDED = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20}
LINE_END = re.compile("\r\n|[\r\x85\u2028\u2029]")
BLANKS = re.compile("[ \t\xa0\u1680\u2000-\u200a\u202f\u205f\u3000]+")
SURROGATE = re.compile("[\ud800-\udfff]")  # U+DC80 to U+DCFF stand for a bad byte each

HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
HAN_RUN = re.compile(f"[{HAN}]+")
ENDS, CLOSERS = "。！？!?…", "”’」』）)】》\"'"
SENTENCE = re.compile(
    "(?:“[^“”\n]{0,200}”|「[^「」\n]{0,200}」|『[^『』\n]{0,200}』|[“「『]"
    rf"|[^“「『{ENDS}\n]+)*"
    rf"(?:[{ENDS}]+[{CLOSERS}]*|\Z)"
)
NEXT_SPEAKER = re.compile(f"(?<=[{ENDS}][”」』])(?=[“「『])")
QUOTE = re.compile("[“「『]")
COMMAS = "，、；：,;: "

COUNTERS = (
    "lines_in",
    "lines_blank",
    "lines_without_sentence",
    "lines_kept",
    "sentences_in",
    "sentences_too_short",
    "sentences_not_chinese",
    "bytes_undecodable",
)

Rule = Callable[[str], tuple[str, int]]


def undecodable(text: str) -> tuple[str, int]:
    """Remove the bytes that were no text in the file's encoding, and halves of characters."""
    return SURROGATE.subn("", text) if SURROGATE.search(text) else (text, 0)


def markup(text: str) -> tuple[str, int]:
    """Remove tags, comments and scripts; replace entities (twice-escaped ones too)."""
    changed = 0
    if "<" in text:
        text, changed = MARKUP.subn(" ", text)
    for _ in range(2 if "&" in text else 0):
        text, entities = _unescaped(text)
        changed += entities
    return text, changed


def _unescaped(text: str) -> tuple[str, int]:
    changed = 0

    def replaced(match: re.Match) -> str:
        nonlocal changed
        new = html.unescape(match[0])
        changed += new != match[0]
        return new

    return ENTITY.sub(replaced, text), changed


def control(text: str) -> tuple[str, int]:
    """Remove characters without a shape, which would split words; unify line ends."""
    return CONTROL.subn("", LINE_END.sub("\n", text))


def special_tokens(text: str) -> tuple[str, int]:
    """Remove literal [CLS], [MASK] and so on."""
    return SPECIAL_TOKEN.subn("", text) if "[" in text else (text, 0)


def width(text: str) -> tuple[str, int]:
    """Full-width letters and digits, and the ideographic blank, to ASCII."""
    return FULL_WIDTH.subn(lambda match: chr(FOLDED[ord(match[0])]), text)


def simplify(text: str) -> tuple[str, int]:
    """Traditional characters to simplified ones, by OpenCC, whose phrases decide where a character
    alone cannot (乾燥, but 乾隆)."""
    changed = _opencc()(text)
    if changed == text:
        return text, 0
    return changed, sum(a != b for a, b in zip_longest(text, changed))


@lru_cache(maxsize=1)
def _opencc() -> Callable[[str], str]:
    import opencc

    return opencc.OpenCC("t2s").convert


def blanks(text: str) -> tuple[str, int]:
    """Every run of blanks a single space."""
    return BLANKS.subn(" ", text)


RULES: dict[str, Rule] = {
    "html": markup,
    "control": control,
    "special_tokens": special_tokens,
    "width": width,
    "simplify": simplify,
    "blanks": blanks,
}


def sentences(line: str) -> list[str]:
    """Cut after 。！？!?… and the closing marks that follow; their concatenation is `line`.

    Quotations of up to 200 characters stay in one piece, with what surrounds them; one whole
    quotation after another is another sentence.
    """
    found = [sentence for sentence in SENTENCE.findall(line) if sentence]
    if QUOTE.search(line):
        found = [turn for sentence in found for turn in NEXT_SPEAKER.split(sentence)]
    return found


def shortened(sentence: str, longest: int) -> list[str]:
    """Parts of at most `longest` characters, cut after a comma if the second half of one has any.

    Their concatenation is `sentence`.
    """
    if len(sentence) <= longest:
        return [sentence]
    parts, start = [], 0
    while len(sentence) - start > longest:
        stop = start + longest
        comma = max(sentence.rfind(mark, start + longest // 2, stop) for mark in COMMAS) + 1
        end = comma or stop
        parts.append(sentence[start:end])
        start = end
    return [*parts, sentence[start:]]


def fault(sentence: str, min_chars: int, min_chinese_share: float) -> str | None:
    """Why a sentence should not stay, as the name of a counter; None when it should."""
    size = len(sentence) - sentence.count(" ")
    if size < min_chars:
        return "sentences_too_short"
    if min_chinese_share and chinese(sentence) < min_chinese_share * size:
        return "sentences_not_chinese"
    return None


def chinese(text: str) -> int:
    """How many Han characters there are."""
    return len(text) - len(HAN_RUN.sub("", text))


def clean(document: str, settings: Clean, counters: Counter) -> list[str]:
    """The sentences of one document that stay; `counters` is told of everything else."""
    document, bad = undecodable(document)
    counters["bytes_undecodable"] += bad
    for name, rule in RULES.items():
        if getattr(settings, name):
            document, changed = rule(document)
            counters[f"changed_{name}"] += changed
    kept: list[str] = []
    for line in document.split("\n"):
        kept += _clean_line(line.strip(), settings, counters)
    return kept


def _clean_line(line: str, settings: Clean, counters: Counter) -> list[str]:
    counters["lines_in"] += 1
    if not line:
        counters["lines_blank"] += 1
        return []
    kept = []
    for sentence in sentences(line) if settings.split else [line]:
        for part in filter(None, map(str.strip, shortened(sentence, settings.max_chars))):
            counters["sentences_in"] += 1
            reason = fault(part, settings.min_chars, settings.min_chinese_share)
            if reason is None:
                kept.append(part)
            else:
                counters[reason] += 1
    counters["lines_kept" if kept else "lines_without_sentence"] += 1
    return kept
