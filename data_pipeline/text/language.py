"""Which language a document is in, by lingua (pip extra `language`).

lingua (https://github.com/pemistahl/lingua-py, Apache-2.0) decides by script and by n-grams of
characters, without a network and without pickled models. Of its languages those are compared that
are written with Han characters or stand in Chinese web text; each more costs time and memory.
"""

import importlib.metadata
from functools import lru_cache
from typing import Any

from data_pipeline.base.errors import UserError

PACKAGE = "lingua-language-detector"
LANGUAGES = ("CHINESE", "JAPANESE", "KOREAN", "ENGLISH")
JUDGED = 500  # characters of a document: more change the answer rarely and cost as much each


def chinese_confidence(text: str) -> float:
    """How sure it is that the beginning of a document is Chinese, simplified or traditional, 0 to
    1, among Chinese, Japanese, Korean and English; 0 for text in no script of theirs."""
    from lingua import Language

    return _detector().compute_language_confidence(text[:JUDGED], Language.CHINESE)


def version() -> str:
    """Of lingua. UserError when it is not installed."""
    try:
        return importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        raise UserError(
            f"clean.quality.min_chinese_confidence: {PACKAGE} is not installed; install it with "
            '`pip install "ppminilm-fleet[language]"`'
        ) from None


@lru_cache(maxsize=1)
def _detector() -> Any:
    from lingua import Language, LanguageDetectorBuilder

    languages = [getattr(Language, name) for name in LANGUAGES]
    return LanguageDetectorBuilder.from_languages(*languages).build()
