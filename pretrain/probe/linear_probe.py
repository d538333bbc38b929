"""How much of a labelling a linear classifier reads from the outputs of each layer."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_pipeline.base.errors import UserError

HELD_OUT_EVERY = 5  # of a labelled file, every fifth line judges
TRAIN_LIMIT, HELD_OUT_LIMIT = 2000, 1000


@dataclass(frozen=True)
class Labelled:
    """Texts with labels, to fit on and to judge by."""

    train: list[tuple[str, str]]
    held_out: list[tuple[str, str]]


def packaged() -> Labelled:
    """Titles of iNEWS with their three labels: training and dev split."""
    from data_pipeline.sources.packaged import inews

    def pairs(split: str, limit: int) -> list[tuple[str, str]]:
        titles, _, labels = inews(split)
        pairs = zip(titles, labels, strict=True)
        return [(title, str(label)) for title, label in pairs if title.strip()][:limit]

    return Labelled(pairs("train", TRAIN_LIMIT), pairs("dev", HELD_OUT_LIMIT))


def read_labelled(path: Path) -> Labelled:
    """A .jsonl file of {"text": ..., "label": ...}; UserError names the line that is none."""
    pairs = []
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    pairs.append(_pair(line, f"{path}, line {number}"))
    except OSError as error:
        raise UserError(f"{path}: cannot read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}") from None
    held_out = pairs[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY]
    train = [pair for n, pair in enumerate(pairs, 1) if n % HELD_OUT_EVERY]
    if len({label for _, label in train}) < 2 or not held_out:
        raise UserError(f"{path}: needs at least {HELD_OUT_EVERY} lines and two labels")
    return Labelled(train[:TRAIN_LIMIT], held_out[:HELD_OUT_LIMIT])


def _pair(line: str, where: str) -> tuple[str, str]:
    try:
        record = json.loads(line)
        return record["text"].strip(), str(record["label"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f'{where}: expected {{"text": ..., "label": ...}}') from None


def accuracy(
    train: np.ndarray, train_labels: list[str], held_out: np.ndarray, labels: list[str]
) -> float:
    """Accuracy on `held_out` of a logistic regression fitted on `train`, both float [n, hidden].

    Columns are scaled to unit variance first, so that no layer gains by its scale.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
    probe.fit(train, train_labels)
    return float(probe.score(held_out, labels))


def majority_share(train_labels: list[str], labels: list[str]) -> float:
    """Accuracy on `labels` of always giving the commonest label of `train_labels`."""
    names, counts = np.unique(train_labels, return_counts=True)
    commonest = names[counts.argmax()]
    return float(np.mean([label == commonest for label in labels]))


def pooled(states: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Mean over the real tokens: float [B, L, hidden] and [B, L] to [B, hidden]."""
    weights = mask / mask.sum(1, keepdims=True)
    return np.einsum("blh,bl->bh", states, weights)
