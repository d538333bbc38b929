"""The first step of a build: one piece of the sources to cleaned text, hashes and counts."""

from collections import Counter
from typing import Any

import numpy as np

from data_pipeline.base.files import write_json
from data_pipeline.building import decontamination, hashing, records, spill
from data_pipeline.building.documents import documents_of
from data_pipeline.building.excluded import reporter
from data_pipeline.building.plan import Plan
from data_pipeline.building.vocabulary import Tally, is_sampled
from data_pipeline.recipe import Dedup
from data_pipeline.text.clean import COUNTERS as CLEAN_COUNTERS
from data_pipeline.text.clean import clean

COUNTERS = (*CLEAN_COUNTERS, "documents_in", "records_bad", "files_damaged")


def read(plan: Plan, piece: int) -> dict[str, Any]:
    """Clean one piece.

    Leaves .txt.zst with the sentences, .exact and .near with their hashes as far as the recipe
    removes duplicates, and .counts.json when the vocabulary is trained on this piece.
    """
    counters: Counter = Counter(dict.fromkeys(COUNTERS, 0))
    skipped: list[dict[str, Any]] = []
    hashes = Hashes(plan.recipe.dedup)
    tally = Tally(plan.recipe.vocab.lower_case) if is_sampled(plan, piece) else None
    task_texts = decontamination.load(plan)
    texts = documents_of(plan, plan.parts_of(piece), counters, skipped)
    with (
        reporter(plan, "read", piece) as report,
        spill.writer(plan.file("read", piece, ".txt.zst")) as write,
    ):
        cleaned = (clean(text, plan.recipe.clean, counters, report) for text in texts)
        for cleaned_block in spill.blocks(cleaned):
            block = cleaned_block
            if task_texts is not None:
                block = [d for d in task_texts.remove(block, counters, report) if d]
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
        "documents": hashes.documents,
        "sentences": hashes.sentences,
        "near_records": sum(map(len, hashes.parts["near"])),
        "skipped": skipped,
    }


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
            long = np.fromiter(map(len, flat), np.int64) >= self._settings.exact_min_chars
            exact = exact[long[exact["sentence"]]]
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
