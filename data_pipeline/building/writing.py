"""The last step of a build: one piece of cleaned text to its shards."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.building import mixing, piece_file, provenance, spill
from data_pipeline.building.dedup import Drops
from data_pipeline.building.excluded import Report, reporter
from data_pipeline.building.holdout import held_out
from data_pipeline.building.plan import Plan, modification_time
from data_pipeline.recipe import BuildRecipe
from data_pipeline.shards import format as shards
from data_pipeline.shards.provenance import Provenance
from data_pipeline.text import packing, words
from data_pipeline.text.encode import WordPieceEncoder
from data_pipeline.text.samples import Ragged

MAX_UNKNOWN = 100  # characters named in the result of a piece
COUNTERS = (
    "documents_near_duplicate",
    "documents_left_out_by_weights",
    "documents_out",
    "documents_held_out",
    "documents_repeated",
    "sentences_in_near_duplicates",
    "sentences_exact_duplicate",
    "sentences_left_out_by_weights",
    "sentences_out",
)


def write(plan: Plan, piece: int) -> dict[str, Any]:
    """Encode one piece without its duplicates, and write its shards if anything is left.

    `copies` in the result says for each copy of the piece (see `mixing`) what the manifest needs of
    its shard, `holdout` the same of the documents that are held out.
    """
    recipe, vocab_file = plan.recipe, plan.vocab_file
    encoder = _encoder(vocab_file, modification_time(vocab_file), recipe.vocab.lower_case)
    cut = _segmenter(recipe.words.segmenter, recipe.words.hmm)
    origin = provenance.load(plan, piece).provenance
    rates = mixing.rates(plan)[origin.source]
    held = held_out(plan, piece, 0, len(origin))
    counters: Counter = Counter(dict.fromkeys(COUNTERS, 0))
    aside, made = ShardParts(plan, "holdout", piece), []
    with reporter(plan, "write", piece) as report:
        for copy in range(mixing.copies(rates)):
            chosen = mixing.in_copy(rates, copy, piece)
            train = ShardParts(plan, "write", copy * plan.pieces + piece)
            if copy == 0:
                blocks = _without_duplicates(plan, piece, counters, report)
                destinations = [(train, chosen & ~held), (aside, chosen & held)]
            else:
                blocks = _without_duplicates(plan, piece, Counter(), lambda reason, text: None)
                destinations = [(train, chosen & ~held)]
            for numbers, documents in blocks:
                if copy == 0:
                    _count_block(counters, documents, chosen[numbers], held[numbers])
                    for i in np.flatnonzero(~chosen[numbers]).tolist():
                        report("left_out_by_weights", "\n".join(documents[i]))
                for parts, flags in destinations:
                    places = np.flatnonzero(flags[numbers])
                    block = [documents[i] for i in places.tolist()]
                    if not block:
                        continue
                    _count_sources(counters, block, origin.source[numbers[places]])
                    counters["documents_repeated"] += len(block) if copy else 0
                    samples, first = encode_block(block, encoder, cut, recipe, parts.unknown)
                    parts.add(samples, origin.take(numbers[places[first]]))
            made.append(train.save(len(encoder.tokens)))
    return {
        "copies": made,
        "counters": counters,
        "holdout": aside.save(len(encoder.tokens)),
        "excluded": recipe.exclude != "off",
    }


class ShardParts:
    """Collects the samples of one shard."""

    def __init__(self, plan: Plan, folder: str, number: int):
        # The folder of the task's result is synced before the result is written.
        self._sync_folder = folder != "write"
        self._path = plan.folder / plan.id / folder / shards.shard_name(number)
        self._max_length = plan.recipe.max_length
        self._parts: list[Ragged] = []
        self._provenance: list[Provenance] = []
        self.unknown: Counter = Counter()

    def add(self, samples: Ragged, origin: Provenance) -> None:
        """The samples of the next block."""
        self._parts.append(samples)
        self._provenance.append(origin)

    def save(self, vocab_size: int) -> dict[str, Any]:
        """Write the shard, unless there is no sample; what the manifest needs of it."""
        samples = Ragged.join(self._parts)
        info = None
        if len(samples):
            about = (samples, vocab_size, Provenance.join(self._provenance))
            made = shards.write_shard(self._path, *about, sync_folder=self._sync_folder)
            info = asdict(made)
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
) -> tuple[Ragged, np.ndarray]:
    """(the samples of some documents, int64 [samples] the document in which each begins).

    `unknown` counts the characters that became [UNK].
    """
    sentences = [sentence for document in block for sentence in document]
    text = "\n".join(sentences)
    ids, word_start, where = encoder.words_and_ids(text, words.boundaries(text, cut))
    unknown.update(text[i] for i in where[ids == encoder.special_ids["unk"]].tolist())
    ends = np.cumsum([len(sentence) + 1 for sentence in sentences])
    sentence_ends = np.searchsorted(where, ends)  # in tokens
    sizes = np.diff(sentence_ends, prepend=0).tolist()
    last_sentences = np.cumsum([len(document) for document in block]) - 1
    new = [recipe.pack == "sentence"] * len(sentences)
    if recipe.pack == "document":
        for first in [0, *(last_sentences[:-1] + 1).tolist()]:
            new[first] = True
    offsets = packing.cuts(sizes, new, word_start, recipe.max_length - 2)
    ids = ids.astype(np.uint16 if len(encoder.tokens) <= 1 << 16 else np.uint32)
    special = encoder.special_ids
    samples = packing.with_specials(ids, word_start, offsets, special["cls"], special["sep"])
    return samples, np.searchsorted(sentence_ends[last_sentences], offsets[:-1], "right")


def _count_block(
    counters: Counter, documents: list[spill.Document], chosen: np.ndarray, held: np.ndarray
) -> None:
    """Count what stays of a block, and what is left out because of the weights."""
    sizes = np.array([len(document) for document in documents], np.int64)
    counters["documents_out"] += int(chosen.sum())
    counters["documents_held_out"] += int((chosen & held).sum())
    counters["documents_left_out_by_weights"] += int((~chosen).sum())
    counters["sentences_out"] += int(sizes[chosen].sum())
    counters["sentences_left_out_by_weights"] += int(sizes[~chosen].sum())


def _count_sources(counters: Counter, block: list[spill.Document], sources: np.ndarray) -> None:
    """Count what goes into shards, by source."""
    characters = [sum(map(len, document)) for document in block]
    for source in np.unique(sources).tolist():
        counters[f"source_{source}_documents_out"] += int((sources == source).sum())
        counters[f"source_{source}_characters_out"] += int(np.dot(characters, sources == source))


def _without_duplicates(
    plan: Plan, piece: int, counters: Counter, report: Report
) -> Iterator[tuple[np.ndarray, list[spill.Document]]]:
    """(numbers int64 [n], documents) that stay, of one block after another."""
    near, exact = Drops(plan, "near").of(piece), Drops(plan, "exact").of(piece)
    document_number = sentence_number = 0
    for block in spill.read(plan.file("read", piece, piece_file.SUFFIX)):
        sizes = [len(document) for document in block]
        near_duplicate = _flags(near, document_number, len(block))
        exact_duplicate = _flags(exact, sentence_number, sum(sizes))
        kept: list[spill.Document] = []
        numbers: list[int] = []
        start = 0
        for document, size, is_duplicate in zip(block, sizes, near_duplicate, strict=True):
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
                if left:
                    kept.append(left)
                    numbers.append(document_number)
            start += size
            document_number += 1
        sentence_number += len(exact_duplicate)
        yield np.array(numbers, np.int64), kept


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
