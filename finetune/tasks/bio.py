"""BIO labels of entities: "B-PER" begins one, "I-PER" continues it, "O" is none.

A sequence is anything in order: characters in a file, tokens in a model. Positions are indices into
it. Reading is strict in one way only (IOB2 as seqeval's default mode has it): an "I-X" that does
not follow "B-X" or "I-X" begins an entity too, so that no label is lost.
"""

from collections.abc import Iterable

from data_pipeline.base.errors import UserError

OUTSIDE = "O"
BEGINS, CONTINUES = "BS", "IME"  # BMES and BIOES files have M, E and S too


def labels_of(types: Iterable[str]) -> list[str]:
    """["O", "B-LOC", "I-LOC", "B-PER", ...]: types in the order given."""
    return [OUTSIDE, *(f"{mark}-{name}" for name in types for mark in "BI")]


def types_of(labels: list[str]) -> list[str]:
    """The types of a list of BIO labels, each once, in order."""
    return list(dict.fromkeys(label[2:] for label in labels if label != OUTSIDE))


def decode(labels: Iterable[str]) -> list[tuple[int, int, str]]:
    """(start, end excluded, type) of every entity in a sequence of BIO, BMES or BIOES labels."""
    found: list[tuple[int, int, str]] = []
    start, current = 0, None
    position = -1
    for position, label in enumerate(labels):
        mark, _, name = label.partition("-")
        goes_on = mark in CONTINUES and name == current
        if current is not None and not goes_on:
            found.append((start, position, current))
            current = None
        if not goes_on and label != OUTSIDE:
            start, current = position, name
    if current is not None:
        found.append((start, position + 1, current))
    return found


def encode(spans: Iterable[tuple[int, int, str]], length: int) -> list[str]:
    """The BIO labels of a sequence of `length` with these (start, end excluded, type) in it."""
    labels = [OUTSIDE] * length
    for start, end, name in spans:
        labels[start:end] = [f"B-{name}"] + [f"I-{name}"] * (end - start - 1)
    return labels


def check(label: str, where: str) -> str:
    """`label` when it is a BIO, BMES or BIOES label; UserError otherwise."""
    mark, dash, name = label.partition("-")
    if label == OUTSIDE or (dash and name and mark in (*BEGINS, *CONTINUES)):
        return label
    raise UserError(
        f"{where}: {label!r} is not a label of entities; expected O, B-TYPE or I-TYPE "
        "(M-, E- and S- are read too)"
    )
