"""Initial values with which attention heads look at one neighbour each: pure functions.

Fresh attention is almost uniform, and a small encoder spends its first millions of tokens on
learning to look at the tokens next to a hidden one. Here positions start as sines and cosines, and
queries and keys as rotations of them, so that head h of a layer starts with its weight on the token
at a given offset. Nothing but initial values differs from any other BERT.
(Trockman and Kolter 2023, https://arxiv.org/abs/2305.09828, start from what attention looks like
after training in the same way.)
"""

import math

import numpy as np

FREQUENCY_POWER = 1.3  # equal steps would make positions 2 * pairs apart look the same


def offsets(layer: int, heads: int) -> list[int]:
    """Offset of each head of layer number `layer` from 0: the nearest, -1, 1, -2, 2, ...; every
    other layer looks further with half of its heads."""
    near = [sign * distance for distance in range(1, heads + 1) for sign in (-1, 1)]
    if layer % 2 == 0:
        return near[:heads]
    far = math.ceil(heads / 2)
    return [*near[heads : heads + far], *near[: heads - far]]


def frequencies(pairs: int) -> np.ndarray:
    """Radians per position of each pair of sine and cosine, between 0 and pi."""
    return math.pi * ((np.arange(pairs) + 0.5) / pairs) ** FREQUENCY_POWER


def positions(count: int, pairs: int) -> np.ndarray:
    """[count, 2 * pairs]: cosine and sine of each frequency in turn; each pair has length 1."""
    angles = np.arange(count)[:, None] * frequencies(pairs)
    return np.stack([np.cos(angles), np.sin(angles)], -1).reshape(count, 2 * pairs)


def shift(pairs: int, offset: int) -> np.ndarray:
    """The rotation R [2 * pairs, 2 * pairs] with R p(i) = p(i + offset), p as in `positions`."""
    rotation = np.zeros((2 * pairs, 2 * pairs))
    for pair, angle in enumerate(frequencies(pairs) * offset):
        at = slice(2 * pair, 2 * pair + 2)
        rotation[at, at] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    return rotation


def query_and_key(
    pairs: int, head_size: int, offset: int, amplitude: float, peak: float
) -> tuple[np.ndarray, np.ndarray]:
    """Projections [2 * pairs, 2 * pairs] of `amplitude` times the positions to a head's query and
    key, with which the logit is highest, `peak`, where the key's position is the query's + offset.
    """
    gain = math.sqrt(peak * math.sqrt(head_size) / pairs) / amplitude
    return gain * shift(pairs, offset), gain * np.eye(2 * pairs)
