"""The last step of a build: one piece of cleaned text to one shard."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.building import dedup, plan, spill
from data_pipeline.building.plan import Plan
from data_pipeline.recipe import BuildRecipe
from data_pipeline.shards import format as shards
from data_pipeline.text import packing, words
from data_pipeline.text.encode import WordPieceEncoder
from data_pipeline.text.samples import Ragged

UNKNOWN_KEPT = 100
COUNTERS = (
    "documents_near_duplicate",
    "documents_out",
    "sentences_in_near_duplicates",
    "sentences_exact_duplicate",
    "sentences_out",
)


def write(build: Plan, piece: int) -> dict[str, Any]:
    """Encode one piece without what duplicates lost, and write its shard if anything is left."""
    recipe = build.recipe
    vocab_file = build.folder / shards.VOCABULARY
    encoder = _encoder(vocab_file, plan.stamp(vocab_file), recipe.vocab.lower_case)
    cut = _segmenter(recipe.words.segmenter, recipe.words.hmm)
    counters: Counter = Counter(dict.fromkeys(COUNTERS, 0))
    unknown: Counter = Counter()
    parts = []
    for block in _without_duplicates(build, piece, counters):
        parts.append(encoded(block, encoder, cut, recipe, unknown))
    samples = Ragged.join(parts)
    info = None
    if len(samples):
        path = recipe.output_dir / shards.shard_name(piece)
        info = asdict(shards.write_shard(path, samples, len(encoder.tokens)))
    return {
        "counters": dict(counters),
        "shard": info,
        "histogram": np.bincount(samples.lengths, minlength=recipe.max_length + 1).tolist(),
        "unknown": sum(unknown.values()),
        "unknown_characters": dict(unknown.most_common(UNKNOWN_KEPT)),
    }


def encoded(
    block: list[spill.Document],
    encoder: WordPieceEncoder,
    cut: Callable[[str], list[str]],
    recipe: BuildRecipe,
    unknown: Counter,
) -> Ragged:
    """The samples of some documents. `unknown` counts the characters that became [UNK]."""
    sentences = [sentence for document in block for sentence in document]
    text = "\n".join(sentences)
    ids, word_start, where = encoder.words_and_ids(text, words.boundaries(text, cut))
    unknown.update(text[i] for i in where[ids == encoder.special_ids["unk"]].tolist())
    ends = np.cumsum([len(sentence) + 1 for sentence in sentences])
    sizes = np.diff(np.searchsorted(where, ends), prepend=0).tolist()
    new = [recipe.pack == "sentence"] * len(sentences)
    if recipe.pack == "document":
        for first in np.cumsum([0, *(len(document) for document in block)])[:-1].tolist():
            new[first] = True
    offsets = packing.cuts(sizes, new, word_start, recipe.max_length - 2)
    ids = ids.astype(np.uint16 if len(encoder.tokens) <= 1 << 16 else np.uint32)
    special = encoder.special_ids
    return packing.with_specials(ids, word_start, offsets, special["cls"], special["sep"])


def _without_duplicates(
    build: Plan, piece: int, counters: Counter
) -> Iterator[list[spill.Document]]:
    near = dropped(build, "near", piece)
    exact = dropped(build, "exact", piece)
    document_number = sentence_number = 0
    for block in spill.read(build.file("read", piece, ".txt.zst")):
        sizes = [len(document) for document in block]
        gone = _among(near, document_number, len(block))
        said = _among(exact, sentence_number, sum(sizes))
        kept = []
        place = 0
        for document, size, resembles in zip(block, sizes, gone, strict=True):
            if resembles:
                counters["documents_near_duplicate"] += 1
                counters["sentences_in_near_duplicates"] += size
            else:
                left = [
                    s for s, d in zip(document, said[place : place + size], strict=True) if not d
                ]
                counters["sentences_exact_duplicate"] += size - len(left)
                counters["sentences_out"] += len(left)
                if left:
                    kept.append(left)
            place += size
        counters["documents_out"] += len(kept)
        document_number += len(block)
        sentence_number += len(said)
        yield kept


def dropped(build: Plan, step: str, piece: int) -> np.ndarray:
    """Sorted numbers of what `step` (near or exact) drops from a piece."""
    return dedup.dropped_of(sorted((build.folder / step).glob("*.npy")), piece)


def _among(numbers: np.ndarray, first: int, count: int) -> list[bool]:
    flags = np.zeros(count, bool)
    a, b = np.searchsorted(numbers, [first, first + count])
    flags[numbers[a:b] - first] = True
    return flags.tolist()


@lru_cache(maxsize=1)
def _encoder(vocab_file: Path, _: int, lower_case: bool) -> WordPieceEncoder:
    return WordPieceEncoder(vocab_file, lower_case)


_segmenter = lru_cache(maxsize=1)(words.segmenter)
