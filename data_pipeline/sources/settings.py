"""The section of a recipe that says where text comes from."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from data_pipeline.base.functions import FUNCTION_NAME
from data_pipeline.base.recipes import one_of, wrong_together
from data_pipeline.sources.formats import FORMATS
from data_pipeline.sources.packaged import NAMES
from data_pipeline.sources.parts import ReadSettings


def _checked_format(name: str) -> str:
    if name not in ("auto", *FORMATS) and not re.match(FUNCTION_NAME, name):
        raise ValueError(f"should be auto, {', '.join(FORMATS)} or package.module:function")
    return name


class Source(ReadSettings):
    """One place where text comes from: `path` or `packaged`."""

    path: str | None = None
    """A file, a folder (searched with all its folders) or a glob such as `clue/**/*.txt`; or a URL
    that fsspec reads, such as `s3://bucket/clue/*.txt`, `oss://` or `hdfs://`."""
    packaged: Annotated[str, one_of(NAMES)] | None = None
    """A corpus that an installed package carries (pip extra `demo`)."""
    format: Annotated[str, AfterValidator(_checked_format)] = "auto"
    """`auto` goes by the file's name: .txt, .jsonl, .json, .parquet, .csv, .tsv, each also with
    .gz, .zst, .bz2 or .xz, and .zip and .tar with such files in them. A reader of your own is named
    `package.module:function`: it takes a path and gives the documents of the file as text."""

    @model_validator(mode="after")
    def _one_place(self):
        if (self.path is None) == (self.packaged is None):
            raise wrong_together("give either path or packaged", "path", "packaged")
        return self


class CorpusSource(Source):
    """A source of the corpus, and how much of it the shards hold."""

    sample: float = Field(1.0, gt=0, le=1)
    """Share of its documents that are used at all, chosen by a hash of their text before anything
    else is done with them."""
    limit_mb: float | None = Field(None, gt=0)
    """Use only about the first so many MB, for a trial."""
    weight: float | None = Field(None, gt=0)
    """Its part of the text in the shards, relative to the weights of the other sources: give all
    sources one or none. Documents are left out after duplicates are removed, no more than the
    weights need."""
    repeat: float = Field(1.0, ge=1, le=100)
    """How often its documents are in the shards: 2.5 is twice, and half of them once more. With
    weights, how often at most. Repetitions are in shards of their own, far from each other."""


class TaskSource(Source):
    """Texts of one task that must not be in the shards: its dev and test files."""

    name: str = Field(pattern=r"^[\w-]+$")
    """What the task is called in the counters, for example `tnews`."""
