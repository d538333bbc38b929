"""Cleaning: a document to the sentences that stay, with a count of everything else."""

from collections import Counter
from collections.abc import Callable
from functools import lru_cache

from data_pipeline.base.errors import UserError
from data_pipeline.base.functions import load_function
from data_pipeline.text.rules import (
    DOCUMENT_RULES,
    SENTENCE_RULES,
    rejection,
    remove_undecodable,
)
from data_pipeline.text.sentences import split_long, split_sentences
from data_pipeline.text.settings import Clean

COUNTERS = (
    "lines_in",
    "lines_blank",
    "lines_without_sentence",
    "lines_kept",
    "sentences_in",
    *(f"sentences_{name}" for name in SENTENCE_RULES),
    "bytes_undecodable",
)


def clean(document: str, settings: Clean, counters: Counter) -> list[str]:
    """The sentences of one document that stay; `counters` counts what was changed or left out."""
    document, count = remove_undecodable(document)
    counters["bytes_undecodable"] += count
    for name, rule in DOCUMENT_RULES.items():
        if getattr(settings, name):
            document, count = rule.apply(document)
            counters[f"changed_{name}"] += count
    for name in settings.rules:
        document, count = own_rule(name)(document)
        counters[f"changed_{name}"] += count
    kept: list[str] = []
    for line in document.split("\n"):
        kept += _clean_line(line.strip(), settings, counters)
    return kept


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


def _clean_line(line: str, settings: Clean, counters: Counter) -> list[str]:
    counters["lines_in"] += 1
    if not line:
        counters["lines_blank"] += 1
        return []
    kept = []
    for sentence in split_sentences(line) if settings.split else [line]:
        for part in filter(None, map(str.strip, split_long(sentence, settings.max_chars))):
            counters["sentences_in"] += 1
            reason = rejection(part, settings)
            if reason is None:
                kept.append(part)
            else:
                counters[f"sentences_{reason}"] += 1
    counters["lines_kept" if kept else "lines_without_sentence"] += 1
    return kept
