"""The first step of a build: one piece of the sources to cleaned text, hashes and counts."""

from collections import Counter
from typing import Any

import numpy as np

from data_pipeline.base.files import write_json
from data_pipeline.building import decontamination, hashing, piece_file, records, spill
from data_pipeline.building.documents import ReadReport, documents_of
from data_pipeline.building.excluded import reporter
from data_pipeline.building.plan import Plan
from data_pipeline.building.provenance import Collector, edges
from data_pipeline.building.vocabulary import Tally, is_sampled
from data_pipeline.recipe import Dedup
from data_pipeline.text.clean import COUNTERS as CLEAN_COUNTERS
from data_pipeline.text.clean import clean

COUNTERS = (
    *CLEAN_COUNTERS,
    "documents_in",
    "documents_not_sampled",
    "records_bad",
    "files_damaged",
)


def read(plan: Plan, piece: int) -> dict[str, Any]:
    """Clean one piece.

    Leaves .piece with the sentences, where they come from, and their hashes as far as the recipe
    removes duplicates (see `piece_file`); .counts.json when the vocabulary is trained on it.
    """
    counters: Counter = Counter(dict.fromkeys(COUNTERS, 0))
    read_report = ReadReport(counters)
    hashes = Hashes(plan.recipe.dedup)
    tally = Tally(plan.recipe.vocab.lower_case) if is_sampled(plan, piece) else None
    task_texts = decontamination.load(plan)
    parts = plan.parts_of(piece)
    texts = documents_of(plan, parts, read_report, sampled=True)
    collector = Collector()
    with (
        reporter(plan, "read", piece) as report,
        piece_file.writer(plan.file("read", piece, piece_file.SUFFIX)) as made,
    ):
        cleaned = (
            (place, clean(text, plan.recipe.clean, counters, report)) for place, text in texts
        )
        with made.section("text") as file, spill.writer(file) as write:
            for block_places, cleaned_block in spill.blocks(cleaned):
                places, block = block_places, cleaned_block
                if task_texts is not None:
                    left = task_texts.remove(block, counters, report)
                    places = [p for p, document in zip(places, left, strict=True) if document]
                    block = [document for document in left if document]
                write(block)
                hashes.add(block)
                collector.add(places, block)
                if tally is not None:
                    tally.add("\n".join(sentence for document in block for sentence in document))
        collector.save(made, parts, read_report.part_documents)
        hashes.save(made)
    if tally is not None:
        write_json(plan.file("read", piece, ".counts.json"), tally.counts())
    sampled = counters["documents_in"] - counters["documents_not_sampled"]
    counters["documents_without_sentence"] = sampled - hashes.documents
    return {
        "counters": dict(counters),
        "documents": hashes.documents,
        "sentences": hashes.sentences,
        "near_records": sum(map(len, hashes.parts["near"])),
        "skipped": read_report.skipped,
        "excluded": plan.recipe.exclude != "off",
        "chunks": [(part.input, part.start) for _, part in parts if part.unit == "chunk"],
        "edges": edges([part.input for _, part in parts], read_report.part_documents),
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

    def save(self, made: piece_file.Writer) -> None:
        """Write what was collected, sorted by hash."""
        for name, parts in self.parts.items():
            if getattr(self._settings, name):
                kind = records.KINDS[name]
                joined = np.concatenate([np.zeros(0, kind.dtype), *parts])
                with made.section(kind.section) as file:
                    records.write_records(file, records.sort_by_hash(joined))
