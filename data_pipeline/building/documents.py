"""The documents of a piece, and what happens to files that are damaged or are no text."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import xxhash

from data_pipeline.base.errors import UserError
from data_pipeline.building import spill
from data_pipeline.building.plan import Plan
from data_pipeline.sources import streams
from data_pipeline.sources.inputs import read_documents
from data_pipeline.sources.parts import Input, Part
from data_pipeline.sources.settings import CorpusSource, Source


@dataclass(frozen=True)
class ReadReport:
    """What reading leaves besides the documents."""

    counters: Counter = field(default_factory=Counter)
    skipped: list[dict[str, Any]] = field(default_factory=list)
    """Which file could not be used in full: `file`, `what` was skipped, and its `count`."""
    part_documents: list[int] = field(default_factory=list)
    """How many documents each part holds, those that are not sampled too."""


class Place(NamedTuple):
    """Where a document comes from."""

    part: int
    """Number of the part among those that are read together."""
    document: int
    """Number of the document in the part."""


def documents_of(
    plan: Plan,
    parts: Iterable[tuple[Input, Part]],
    report: ReadReport,
    sources: tuple[Source, ...] | None = None,
    *,
    sampled: bool = False,
) -> Iterator[tuple[Place, str]]:
    """The documents of parts of the recipe's sources, or of `sources`, with their places.

    sampled: without the documents that the sources' `sample` leaves out.

    Who cleans them counts `bytes_undecodable` in the counters of `report`.

    UserError for a damaged file, or one with a large share of what is no text; with
    `run.damaged_files: skip` it is noted in the report instead.
    """
    counters = report.counters
    for number, (entry, part) in enumerate(parts):
        source = (sources or plan.recipe.sources)[entry.source]
        share = source.sample if sampled and isinstance(source, CorpusSource) else 1.0
        seen: Counter = Counter()
        before = counters["bytes_undecodable"]
        if part.unit == "chunk":
            texts = spill.read_texts(plan.chunk_file(part.input, part.start))
        else:
            texts = read_documents(entry, part, source, seen)
        if part.is_limited:
            texts = _first_bytes(texts, part.bytes)
        try:
            for document, text in enumerate(texts):
                counters["documents_in"] += 1
                seen["documents"] += 1
                if not is_sampled(text, share):
                    counters["documents_not_sampled"] += 1
                    continue
                seen["characters"] += len(text)
                yield Place(number, document), text
        except streams.Damaged as error:
            _stop_or_note(plan, entry.path, f"damaged: {error}", report)
            counters["files_damaged"] += 1
        report.part_documents.append(seen["documents"])
        counters[f"source_{entry.source}_documents_in"] += seen["documents"]
        counters[f"source_{entry.source}_characters_in"] += seen["characters"]
        seen["bytes_undecodable"] = counters["bytes_undecodable"] - before
        _check_shares(plan, entry.path, seen, source.max_bad_share, report)
        if seen["members_skipped"]:
            item = {"file": entry.path, "what": "members_skipped", "count": seen["members_skipped"]}
            report.skipped.append(item)
        for name in ("records_bad", "members_skipped"):
            counters[name] += seen[name]


def is_sampled(text: str, share: float) -> bool:
    """Whether a document is among a share of all; copies of it are too."""
    if share == 1:
        return True
    digest = xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"), seed=1)
    return digest < share * 2**64


def text_bytes(text: str) -> int:
    """Bytes of a text in UTF-8."""
    return len(text.encode("utf-8", "surrogatepass"))


def _first_bytes(texts: Iterator[str], limit: int) -> Iterator[str]:
    """Texts until `limit` bytes are reached."""
    size = 0
    for text in texts:
        yield text
        size += text_bytes(text)
        if size >= limit:
            return


def _check_shares(plan: Plan, path: str, seen: Counter, limit: float, report: ReadReport) -> None:
    """Report what a file could not give: undecodable bytes and records without text."""
    for bad, total, message in (
        ("bytes_undecodable", "characters", "characters that its encoding does not have"),
        ("records_bad", "records_in", "records without text in the fields of the recipe"),
    ):
        count = seen[bad]
        if not count:
            continue
        if count > limit * seen[total]:
            share = f"{count:,} of {seen[total]:,} are {message}, above max_bad_share {limit:.0%}"
            _stop_or_note(plan, path, share, report)
        report.skipped.append({"file": path, "what": bad, "count": count})


def _stop_or_note(plan: Plan, path: str, message: str, report: ReadReport) -> None:
    if plan.recipe.run.damaged_files == "stop":
        raise UserError(
            f"{path}: {message}. Correct the file or its source in the recipe, or use what is "
            "readable of such files with --run.damaged_files skip"
        )
    report.skipped.append({"file": path, "what": message, "count": 1})
