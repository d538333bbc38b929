"""Sentences to samples: pure functions of token counts."""

import numpy as np

from data_pipeline.text.samples import Ragged


def cuts(
    sentences: list[int], starts_document: list[bool], word_start: np.ndarray, room: int
) -> np.ndarray:
    """Where to cut a stream of tokens into samples, so that none is lost.

    sentences: tokens of each sentence; starts_document: whether a sentence must begin a new
    sample; word_start: [tokens] of the stream; room: tokens of a sample at most. A sample takes as
    many whole sentences as fit. Only a sentence longer than `room` is cut, before a word if one
    begins within the room. Returns int64 offsets [0, ..., tokens].
    """
    offsets = [0]
    held = position = 0
    for size, new in zip(sentences, starts_document, strict=True):
        if held and (new or held + size > room):
            offsets.append(position)
            held = 0
        end = position + size
        while end - position > room:
            position += _fitting(word_start[position + 1 : position + room + 1], room)
            offsets.append(position)
        held += end - position
        position = end
    if held:
        offsets.append(position)
    return np.array(offsets, np.int64)


def _fitting(word_start: np.ndarray, room: int) -> int:
    """How many tokens to take so that the next one begins a word; `room` where none does."""
    places = np.flatnonzero(word_start)
    return int(places[-1]) + 1 if len(places) else room


def with_specials(
    ids: np.ndarray, word_start: np.ndarray, offsets: np.ndarray, cls: int, sep: int
) -> Ragged:
    """[CLS] before and [SEP] behind each sample; both count as words."""
    wide = offsets + 2 * np.arange(len(offsets))
    first, last = wide[:-1], wide[1:] - 1
    text = np.ones(int(wide[-1]), bool)
    text[first] = text[last] = False
    out_ids = np.empty(len(text), ids.dtype)
    out_ids[text], out_ids[first], out_ids[last] = ids, cls, sep
    out_start = np.ones(len(text), np.uint8)
    out_start[text] = word_start
    return Ragged(out_ids, wide, out_start)
