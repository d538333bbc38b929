"""The documents of a piece, and what happens to files that are damaged or are no text."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from data_pipeline.base.errors import UserError
from data_pipeline.building import spill
from data_pipeline.building.plan import Plan
from data_pipeline.sources import streams
from data_pipeline.sources.inputs import read_documents
from data_pipeline.sources.parts import Input, Part
from data_pipeline.sources.settings import Source


def documents_of(
    plan: Plan,
    parts: Iterable[tuple[Input, Part]],
    counters: Counter,
    skipped: list[dict[str, Any]],
    sources: tuple[Source, ...] | None = None,
) -> Iterator[str]:
    """The documents of parts of the recipe's sources, or of `sources`.

    Who cleans them counts `bytes_undecodable` in `counters`.

    UserError for a damaged file, or one with a large share of what is no text; with
    `run.damaged_files: skip` it is noted in `skipped` instead.
    """
    for entry, part in parts:
        source = (sources or plan.recipe.sources)[entry.source]
        seen: Counter = Counter()
        before = counters["bytes_undecodable"]
        if part.unit == "chunk":
            texts = spill.read_texts(plan.chunk_file(part.input, part.start))
        else:
            texts = read_documents(entry, part, source, seen)
        try:
            for text in texts:
                counters["documents_in"] += 1
                seen["documents"] += 1
                seen["characters"] += len(text)
                yield text
        except streams.Damaged as error:
            _stop_or_note(plan, entry.path, f"damaged: {error}", skipped)
            counters["files_damaged"] += 1
        counters[f"source_{entry.source}_documents_in"] += seen["documents"]
        counters[f"source_{entry.source}_characters_in"] += seen["characters"]
        seen["bytes_undecodable"] = counters["bytes_undecodable"] - before
        _check_shares(plan, entry.path, seen, source.max_bad_share, skipped)
        for name in ("records_bad", "members_skipped"):
            counters[name] += seen[name]


def _check_shares(
    plan: Plan, path: str, seen: Counter, limit: float, skipped: list[dict[str, Any]]
) -> None:
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
            _stop_or_note(plan, path, share, skipped)
        skipped.append({"file": path, "what": bad, "count": count})


def _stop_or_note(plan: Plan, path: str, message: str, skipped: list[dict[str, Any]]) -> None:
    if plan.recipe.run.damaged_files == "stop":
        raise UserError(
            f"{path}: {message}. Correct the file or its source in the recipe, or use what is "
            "readable of such files with --run.damaged_files skip"
        )
    skipped.append({"file": path, "what": message, "count": 1})
