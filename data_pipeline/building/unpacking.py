"""The step before reading: large inputs that cannot be cut where they lie, into chunks that can be
read alone. Compressed and UTF-16 files, archives, tables, remote files and the user's own readers
become many shards in this way, and no process holds more than a piece of them."""

from collections.abc import Iterator
from typing import Any

from data_pipeline.base.files import sync
from data_pipeline.building import spill
from data_pipeline.building.documents import ReadReport, documents_of, text_bytes
from data_pipeline.building.plan import Plan


def unpack(plan: Plan, number: int) -> dict[str, Any]:
    """Leave the documents of input `number` of those to unpack as chunks of about a piece."""
    entry, part = plan.to_unpack(number)
    report = ReadReport()
    texts = (text for _, text in documents_of(plan, [(entry, part)], report))
    sizes: list[int] = []
    first = next(texts, None)
    while first is not None:
        path = plan.chunk_file(part.input, len(sizes))
        with spill.text_writer(path) as write:
            size, first = _fill(write, first, texts, int(plan.recipe.piece_mb * 1e6))
        sizes.append(size)
    if sizes:
        sync(path.parent)
    # Documents are counted when the chunks are read.
    names = ("records_bad", "members_skipped", "files_damaged")
    counted = {name: report.counters[name] for name in names}
    return {"counters": counted, "skipped": report.skipped, "chunks": sizes}


def _fill(write, first: str, texts: Iterator[str], limit: int) -> tuple[int, str | None]:
    """(bytes of text written, the document that comes next or None at the end)."""
    size = 0
    text: str | None = first
    while text is not None and size < limit:
        write(text)
        size += text_bytes(text)
        text = next(texts, None)
    return size, text
