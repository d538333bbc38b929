"""What formats have in common: inputs, parts of inputs, and how a format plans and reads them."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from data_pipeline.base.recipes import Recipe

Unit = Literal["byte", "row group", "document", "file", "chunk"]


class ReadSettings(Recipe):
    """How the documents of an input are told apart."""

    fields: tuple[str, ...] = ("text",)
    """jsonl, parquet, csv, tsv: the fields that hold text; several make one document together."""
    documents: Literal["blank_line", "line", "file"] = "blank_line"
    """txt: what ends a document. `blank_line` is the layout of CLUECorpus2020."""
    encoding: str = "auto"
    """`auto` tells UTF-8, GB18030, UTF-16 and UTF-32 apart, by file; or a name that Python has."""
    max_bad_share: float = Field(0.05, ge=0, le=1)
    """A file with a larger share of undecodable characters, or of records without text, is handled
    as a damaged one (`run.damaged_files`): it has another encoding, format or field."""


@dataclass(frozen=True, slots=True)
class Input:
    """One file, or one packaged corpus."""

    source: int
    """Index into the recipe's sources."""
    path: str
    """Or the name of the packaged corpus."""
    format: str
    """A name in the table of formats, or `package.module:function`."""
    encoding: str
    bytes: int
    text_bytes: int
    """`bytes`, or more when the file is compressed: known or estimated."""
    modified_ns: int


@dataclass(frozen=True, slots=True)
class Part:
    """A range of an input: `start` to `stop`, `stop` not included, counted in `unit`."""

    input: int
    """Index into the inputs."""
    unit: Unit
    start: int
    stop: int
    bytes: int
    """How much of the input that is, for the sizes of pieces and the progress bar."""
    is_limited: bool = False
    """Whether only its first `bytes` are used, to the end of a document."""


class Format(ABC):
    """How one format is cut into parts, and a part read as documents."""

    suffixes: tuple[str, ...] = ()
    """File names that have this format unless the recipe names another."""

    def parts(
        self, number: int, entry: Input, settings: ReadSettings, part_bytes: int
    ) -> Iterator[Part]:
        """Parts of about `part_bytes` that together are input `number`, in order. Unless a format
        can do better, the whole input."""
        yield whole_file_part(number, entry)

    @abstractmethod
    def documents(
        self, entry: Input, part: Part, settings: ReadSettings, counters: Counter
    ) -> Iterator[str]:
        """The documents of a part: lines joined by line ends, bad bytes as lone surrogates.

        `counters` counts records_in, and of them records_bad, which hold no text. streams.Damaged
        when the file breaks off; OSError when it cannot be read.
        """


def whole_file_part(number: int, entry: Input) -> Part:
    """The one part of an input that cannot be cut; `bytes` are those of the decompressed text."""
    return Part(number, "file", 0, 1, entry.text_bytes)
