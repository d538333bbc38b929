"""From the states of a text's tokens to one vector. A new way is one function and one entry in
POOLINGS, from which the recipe's allowed values derive. Nothing here imports Paddle."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Pooling:
    """How the last layer's output [B, L, H] becomes [B, H]."""

    pool: Callable[[Any, Any], Any]
    """Of (states [B, L, H], float32 mask [B, L] with 1 for tokens)."""
    reads_first_row: bool
    """Whether it needs nothing but row 0, so that the last layer need not compute the others."""


def mean(states, mask):
    """The mean over the text's tokens, [CLS] and [SEP] among them, as sentence-transformers has
    it."""
    return (states * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)


def first(states, _):
    """The state of [CLS]."""
    return states[:, 0]


POOLINGS = {"mean": Pooling(mean, False), "cls": Pooling(first, True)}
