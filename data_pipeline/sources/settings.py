"""The section of a recipe that says where text comes from."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, model_validator

from data_pipeline.base.functions import FUNCTION_NAME
from data_pipeline.base.recipes import wrong_together
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
    """A file, a folder (searched with all its folders) or a glob such as `clue/**/*.txt`."""
    packaged: Literal[NAMES] | None = None
    """A corpus that an installed package carries (pip extra `demo`)."""
    format: Annotated[str, AfterValidator(_checked_format)] = "auto"
    """`auto` goes by the file's name: .txt, .jsonl, .json, .parquet, each also with .gz or .zst.
    A reader of your own is named as `package.module:function`: it takes a path and gives the
    documents of the file as text."""

    @model_validator(mode="after")
    def _one_place(self):
        if (self.path is None) == (self.packaged is None):
            raise wrong_together("give either path or packaged", "path", "packaged")
        return self
