"""The last step of a build: one piece of cleaned text to one shard."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.building import spill
from data_pipeline.building.excluded import Report, reporter
from data_pipeline.building.holdout import held_out
from data_pipeline.building.plan import Plan, modification_time
from data_pipeline.recipe import BuildRecipe
from data_pipeline.shards import format as shards
from data_pipeline.text import packing, words
from data_pipeline.text.encode import WordPieceEncoder
from data_pipeline.text.samples import Ragged

MAX_UNKNOWN = 100  # characters named in the result of a piece
COUNTERS = (
    "documents_near_duplicate",
    "documents_out",
    "documents_held_out",
    "sentences_in_near_duplicates",
    "sentences_exact_duplicate",
    "sentences_out",
)


def write(plan: Plan, piece: int) -> dict[str, Any]:
    """Encode one piece without its duplicates, and write its shard if anything is left.

    `holdout` in the result is the same for the documents that are held out.
    """
    recipe = plan.recipe
    vocab_file = plan.vocab_file
    encoder = _encoder(vocab_file, modification_time(vocab_file), recipe.vocab.lower_case)
    cut = _segmenter(recipe.words.segmenter, recipe.words.hmm)
    counters: Counter = Counter(dict.fromkeys(COUNTERS, 0))
    train, holdout = ShardParts(plan, piece, "write"), ShardParts(plan, piece, "holdout")
    with reporter(plan, "write", piece) as report:
        for block, held in _without_duplicates(plan, piece, counters, report):
            for parts, is_held in ((train, False), (holdout, True)):
                documents = [d for d, h in zip(block, held, strict=True) if h == is_held]
                if documents:
                    parts.add(encode_block(documents, encoder, cut, recipe, parts.unknown))
    vocab_size = len(encoder.tokens)
    return {**train.save(vocab_size), "counters": counters, "holdout": holdout.save(vocab_size)}


class ShardParts:
    """Collects the samples of one shard."""

    def __init__(self, plan: Plan, piece: int, folder: str):
        self._path = plan.folder / plan.id / folder / shards.shard_name(piece)
        self._max_length = plan.recipe.max_length
        self._parts: list[Ragged] = []
        self.unknown: Counter = Counter()

    def add(self, samples: Ragged) -> None:
        """The samples of the next block."""
        self._parts.append(samples)

    def save(self, vocab_size: int) -> dict[str, Any]:
        """Write the shard, unless there is no sample; what the manifest needs of it."""
        samples = Ragged.join(self._parts)
        info = None
        if len(samples):
            info = asdict(shards.write_shard(self._path, samples, vocab_size))
        return {
            "shard": info,
            "histogram": np.bincount(samples.lengths, minlength=self._max_length + 1).tolist(),
            "unknown": sum(self.unknown.values()),
            "unknown_characters": dict(self.unknown.most_common(MAX_UNKNOWN)),
        }


def encode_block(
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
    plan: Plan, piece: int, counters: Counter, report: Report
) -> Iterator[tuple[list[spill.Document], list[bool]]]:
    """(documents that stay, whether each is held out) of one block after another."""
    near = dropped(plan, "near", piece)
    exact = dropped(plan, "exact", piece)
    document_number = sentence_number = 0
    for block in spill.read(plan.file("read", piece, ".txt.zst")):
        sizes = [len(document) for document in block]
        near_duplicate = _flags(near, document_number, len(block))
        exact_duplicate = _flags(exact, sentence_number, sum(sizes))
        held = held_out(plan, piece, document_number, len(block)).tolist()
        kept: list[spill.Document] = []
        kept_held: list[bool] = []
        start = 0
        for document, size, is_duplicate, is_held in zip(
            block, sizes, near_duplicate, held, strict=True
        ):
            if is_duplicate:
                counters["documents_near_duplicate"] += 1
                counters["sentences_in_near_duplicates"] += size
                report("near_duplicate", "\n".join(document))
            else:
                flags = exact_duplicate[start : start + size]
                left = []
                for sentence, is_repeated in zip(document, flags, strict=True):
                    if is_repeated:
                        report("exact_duplicate", sentence)
                    else:
                        left.append(sentence)
                counters["sentences_exact_duplicate"] += size - len(left)
                counters["sentences_out"] += len(left)
                if left:
                    kept.append(left)
                    kept_held.append(is_held)
            start += size
        counters["documents_out"] += len(kept)
        counters["documents_held_out"] += sum(kept_held)
        document_number += len(block)
        sentence_number += len(exact_duplicate)
        yield kept, kept_held


def dropped(plan: Plan, step: str, piece: int) -> np.ndarray:
    """Sorted numbers of what `step` (near or exact) drops from a piece."""
    if not getattr(plan.recipe.dedup, step):
        return np.zeros(0, np.uint32)
    return np.load(plan.file(f"{step}_drops", piece, ".npy"))


def _flags(numbers: np.ndarray, first: int, count: int) -> list[bool]:
    """Which of `count` numbers from `first` on are among the sorted `numbers`."""
    flags = np.zeros(count, bool)
    a, b = np.searchsorted(numbers, [first, first + count])
    flags[numbers[a:b] - first] = True
    return flags.tolist()


@lru_cache(maxsize=1)
def _encoder(vocab_file: Path, _: int, lower_case: bool) -> WordPieceEncoder:
    return WordPieceEncoder(vocab_file, lower_case)


_segmenter = lru_cache(maxsize=1)(words.segmenter)
