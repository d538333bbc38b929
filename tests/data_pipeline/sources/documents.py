"""Documents to write in many formats, and all that a source gives of them."""

import gzip
from collections import Counter

import zstandard

from data_pipeline.sources.inputs import find_inputs, make_parts, read_documents
from data_pipeline.sources.settings import Source

DOCS = ["第一篇，你好。\n它有两行。", "第二篇。", "第三篇：很好！\n对。"]


def everything(source: Source, size: int = 1 << 20) -> list[str]:
    inputs = find_inputs((source,))
    counters = Counter()
    return [
        text
        for part in make_parts(inputs, (source,), size)
        for text in read_documents(inputs[part.input], part, source, counters)
    ]


def packed(name: str, data: bytes) -> bytes:
    if name.endswith(".gz"):
        return gzip.compress(data)
    return zstandard.compress(data) if name.endswith(".zst") else data
