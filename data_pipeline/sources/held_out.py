"""Which texts are near copies of texts that are held out for development and test.

Two texts are compared by their letters and digits alone, lower-cased: blanks and punctuation are
what copies differ in. A text is a near copy of a held-out one when both are the same, or when they
share at least half of the runs of 13 characters of the shorter one. Held-out titles that a news
text repeats are found by that too.
"""

from collections.abc import Iterable

import numpy as np

from data_pipeline.text.runs import hashed_runs

RUN = 13
"""Characters of a run: about as many as the 8 to 13 words that decontamination usually compares."""
SHARE = 0.5


class HeldOut:
    """Texts that nothing may be trained on, ready to be compared with."""

    def __init__(self, texts: Iterable[str]):
        plain = [plain_characters(text) for text in texts]
        self.same = {text for text in plain if text}
        hashed = [runs(text) for text in plain]
        self.sizes = np.array([len(one) for one in hashed], np.int64)  # [held-out texts]
        owners = np.repeat(np.arange(len(hashed)), self.sizes)
        values = np.concatenate([np.zeros(0, np.uint64), *hashed])
        order = np.argsort(values, kind="stable")
        self.values, self.owners = values[order], owners[order]

    def has_near_copy_of(self, text: str) -> bool:
        """Whether `text` is a near copy of a held-out text."""
        text = plain_characters(text)
        if text in self.same:
            return True
        own = runs(text)
        first = np.searchsorted(self.values, own, "left")
        count = np.searchsorted(self.values, own, "right") - first
        if not count.any():
            return False
        owners = np.concatenate(
            [self.owners[a : a + n] for a, n in zip(first, count, strict=True) if n]
        )
        names, shared = np.unique(owners, return_counts=True)
        return bool((shared >= SHARE * np.minimum(self.sizes[names], len(own))).any())


def plain_characters(text: str) -> str:
    """Letters and digits alone, lower-cased."""
    return "".join(filter(str.isalnum, text)).lower()


def runs(text: str) -> np.ndarray:
    """Distinct hashes of all runs of RUN characters, uint64."""
    return hashed_runs(text, RUN)
