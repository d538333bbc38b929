"""The first step of a build: one piece of the sources to cleaned text, hashes and counts."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from data_pipeline.base.errors import UserError
from data_pipeline.base.files import write_json
from data_pipeline.building import hashing, records, spill
from data_pipeline.building.plan import Plan
from data_pipeline.building.vocabulary import Tally, is_sampled
from data_pipeline.recipe import Dedup
from data_pipeline.sources import streams
from data_pipeline.sources.inputs import read_documents
from data_pipeline.text.clean import COUNTERS as CLEAN_COUNTERS
from data_pipeline.text.clean import clean

COUNTERS = (*CLEAN_COUNTERS, "documents_in", "records_bad", "files_damaged")


def read(plan: Plan, piece: int) -> dict[str, Any]:
    """Clean one piece.

    Leaves .txt.zst with the sentences, .exact and .near with their hashes as far as the recipe
    removes duplicates, and .counts.json when the vocabulary is trained on this piece.
    """
    counters: Counter = Counter(dict.fromkeys(COUNTERS, 0))
    damaged: list[str] = []
    hashes = Hashes(plan.recipe.dedup)
    tally = Tally(plan.recipe.vocab.lower_case) if is_sampled(plan, piece) else None
    cleaned = (
        clean(text, plan.recipe.clean, counters)
        for text in _documents(plan, piece, counters, damaged)
    )
    with spill.writer(plan.file("read", piece, ".txt.zst")) as write:
        for block in spill.blocks(cleaned):
            write(block)
            hashes.add(block)
            if tally is not None:
                tally.add("\n".join(sentence for document in block for sentence in document))
    hashes.save(plan, piece)
    if tally is not None:
        write_json(plan.file("read", piece, ".counts.json"), tally.counts())
    counters["documents_without_sentence"] = counters["documents_in"] - hashes.documents
    return {
        "counters": dict(counters),
        "sentences": hashes.sentences,
        "near_records": sum(map(len, hashes.parts["near"])),
        "damaged": damaged,
    }


def _documents(plan: Plan, piece: int, counters: Counter, damaged: list[str]) -> Iterator[str]:
    for entry, part in plan.parts_of(piece):
        source = plan.recipe.sources[entry.source]
        try:
            for text in read_documents(entry, part, source, counters):
                counters["documents_in"] += 1
                yield text
        except streams.Damaged as error:
            if plan.recipe.run.damaged_files == "stop":
                raise UserError(
                    f"{entry.path}: damaged: {error}. Repair it, or use what is readable of such "
                    "files with --run.damaged_files skip; what is finished is saved"
                ) from error
            counters["files_damaged"] += 1
            damaged.append(entry.path)


class Hashes:
    """Collects the hashes of a piece, and numbers its documents and sentences."""

    def __init__(self, settings: Dedup):
        self._settings = settings
        self.documents = self.sentences = 0
        self.parts: dict[str, list[np.ndarray]] = {"exact": [], "near": []}

    def add(self, block: list[spill.Document]) -> None:
        """The next documents of the piece."""
        sizes = [len(document) for document in block]
        if self._settings.exact:
            flat = [sentence for document in block for sentence in document]
            exact = hashing.exact_records(flat, np.repeat(np.arange(len(block)), sizes))
            exact["sentence"] += self.sentences
            exact["document"] += self.documents
            self.parts["exact"].append(exact)
        if self._settings.near:
            texts = ["".join(document) for document in block]
            threshold = self._settings.near_threshold
            near = hashing.near_records(texts, threshold, self._settings.near_permutations)
            near["document"] += self.documents
            self.parts["near"].append(near)
        self.documents += len(block)
        self.sentences += sum(sizes)

    def save(self, plan: Plan, piece: int) -> None:
        """Write what was collected, sorted by hash."""
        for name, parts in self.parts.items():
            if getattr(self._settings, name):
                joined = np.concatenate([np.zeros(0, records.KINDS[name].dtype), *parts])
                path = plan.file("read", piece, f".{name}")
                records.write_records(path, records.sort_by_hash(joined))
