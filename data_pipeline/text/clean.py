"""Cleaning: a document to the sentences that stay, with a count of everything else."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

from data_pipeline.base.errors import UserError
from data_pipeline.base.functions import load_function
from data_pipeline.text.characters import count_han
from data_pipeline.text.language import chinese_confidence
from data_pipeline.text.quality import SHARES
from data_pipeline.text.rules import (
    DOCUMENT_RULES,
    SENTENCE_RULES,
    han_share_below,
    rejection,
    remove_undecodable,
)
from data_pipeline.text.sentences import join_short, split_long, split_sentences
from data_pipeline.text.settings import Clean

COUNTERS = (
    "lines_in",
    "lines_blank",
    "sentences_in",
    *(f"sentences_{name}" for name in SENTENCE_RULES),
    "sentences_in_not_chinese_documents",
    "documents_not_chinese",
    "bytes_undecodable",
    "characters_in",
)


def clean(
    document: str,
    settings: Clean,
    counters: Counter,
    report: Callable[[str, str], None] = lambda reason, text: None,
) -> list[str]:
    """The sentences of one document that stay; `counters` counts what was changed or left out.

    `report` is given (reason, text) of every document and sentence that is left out.

    characters_in, less characters_removed_RULE of every rule, less blanks and line ends, is what
    stays.
    """
    counters["characters_in"] += len(document)
    document, count = remove_undecodable(document)
    counters["bytes_undecodable"] += count
    for name, apply in _document_rules(settings):
        before = len(document)
        document, count = apply(document)
        counters[f"changed_{name}"] += count
        counters[f"characters_removed_{name}"] += before - len(document)
    sentences = _sentences(document, settings, counters)
    counters["sentences_in"] += len(sentences)
    reason = document_rejection(sentences, settings)
    if reason is not None:
        counters[f"documents_{reason}"] += 1
        counters[f"sentences_in_{reason}_documents"] += len(sentences)
        counters[f"characters_removed_{reason}_document"] += sum(map(len, sentences))
        report(f"{reason}_document", "\n".join(sentences))
        return []
    kept: list[str] = []
    for sentence in sentences:
        reason = rejection(sentence, settings)
        if reason is None:
            kept.append(sentence)
        else:
            counters[f"sentences_{reason}"] += 1
            counters[f"characters_removed_{reason}"] += len(sentence)
            report(reason, sentence)
    return kept


def document_rejection(sentences: list[str], settings: Clean) -> str | None:
    """Why a whole document is left out; None when it stays."""
    if han_share_below(sentences, settings.min_chinese_share):
        return "not_chinese"
    for name, share in SHARES.items():
        limit = getattr(settings.quality, f"max_{name}")
        if limit is not None and share(sentences) > limit:
            return name
    words = settings.quality.bad_words
    if words is not None and _pattern_of(words).search("\n".join(sentences)):
        return "bad_words"
    confidence = settings.quality.min_chinese_confidence
    if confidence is not None and chinese_confidence("\n".join(sentences)) < confidence:
        return "other_language"
    return None


@lru_cache(maxsize=4)
def _pattern_of(path: Path) -> re.Pattern:
    """A pattern of the words in a file, one a line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"clean.quality.bad_words: {path}: cannot be read: {error}") from None
    words = sorted(filter(None, map(str.strip, lines)), key=len, reverse=True)
    if not words:
        raise UserError(f"clean.quality.bad_words: {path} holds no word; one a line")
    return re.compile("|".join(map(re.escape, words)))


def _document_rules(settings: Clean) -> Iterator[tuple[str, Callable[[str], tuple[str, int]]]]:
    """(name, rule) of the rules that are on, in their order."""
    for name, rule in DOCUMENT_RULES.items():
        if getattr(settings, name):
            yield name, rule.apply
    for name in settings.rules:
        yield name, own_rule(name)


def _sentences(document: str, settings: Clean, counters: Counter) -> list[str]:
    """The sentences of all lines. A line that is too short alone joins the sentence before it."""
    sentences: list[str] = []
    for line in map(str.strip, document.split("\n")):
        counters["lines_in"] += 1
        if not line:
            counters["lines_blank"] += 1
            continue
        room = settings.max_chars - len(sentences[-1]) if sentences else 0
        if len(line) < settings.min_chars and len(line) <= room and count_han(line):
            sentences[-1] += line
            continue
        pieces = split_sentences(line) if settings.split else [line]
        for sentence in join_short(pieces, settings.min_chars, settings.max_chars):
            sentences += filter(None, map(str.strip, split_long(sentence, settings.max_chars)))
    return sentences


@lru_cache(maxsize=64)
def own_rule(name: str) -> Callable[[str], tuple[str, int]]:
    """The user's rule `package.module:function`; what it returns is checked."""
    function = load_function(name)

    def rule(text: str) -> tuple[str, int]:
        match function(text):
            case (str() as new, int() as count):
                return new, count
            case other:
                raise UserError(
                    f"clean.rules: {name} returned {other!r:.80}; a rule returns (text, number of "
                    "places changed)"
                )

    return rule
