"""The recipe of a build: what text, cleaned how, into which vocabulary and shards."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from data_pipeline.base.recipes import Recipe
from data_pipeline.sources.packaged import NAMES
from data_pipeline.text.words import SEGMENTERS


class Source(Recipe):
    """One place where text comes from: `path` or `packaged`."""

    path: str | None = None
    """A file, a folder (searched with all its folders) or a glob such as `clue/**/*.txt`."""
    packaged: Literal[NAMES] | None = None
    """A corpus that an installed package carries."""
    format: Literal["auto", "txt", "jsonl", "parquet"] = "auto"
    """`auto` goes by the file's name: .txt, .jsonl, .json, .parquet, each also with .gz or .zst."""
    fields: tuple[str, ...] = ("text",)
    """jsonl and parquet: the fields that hold text; several make one document together."""
    documents: Literal["blank_line", "line", "file"] = "blank_line"
    """txt: what ends a document. `blank_line` is the layout of CLUECorpus2020."""
    encoding: str = "auto"
    """`auto` tells UTF-8 (with or without BOM), UTF-16 with BOM and GB18030 apart, by file."""

    @model_validator(mode="after")
    def _one_place(self):
        if (self.path is None) == (self.packaged is None):
            raise ValueError("give either path or packaged")
        return self


class Clean(Recipe):
    """Rules in the order in which they apply. Each has a counter in the manifest."""

    html: bool = True
    """Remove tags, comments, scripts; turn `&amp;` and the like into what they stand for."""
    control: bool = True
    """Remove control, zero-width, direction and private-use characters, and NUL."""
    special_tokens: bool = True
    """Remove a literal `[MASK]` and the like, which would pass for the real one."""
    width: bool = True
    """Full-width Latin letters and digits to ASCII. Chinese punctuation stays as it is."""
    simplify: bool = False
    """Traditional characters to simplified ones, by OpenCC."""
    blanks: bool = True
    """Several blanks in a row become one; none at the ends of a line."""
    split: bool = True
    """Cut lines into sentences at Chinese punctuation, never inside a short quotation."""
    max_chars: int = Field(512, ge=16)
    """Longer sentences are cut, at a comma where there is one. Nothing is lost."""
    min_chars: int = Field(4, ge=1)
    """Shorter sentences are left out (blanks do not count)."""
    min_chinese_share: float = Field(0.3, ge=0, le=1)
    """Sentences with a smaller share of Han characters are left out."""


class Dedup(Recipe):
    """What counts as said before. The first occurrence stays."""

    exact: bool = True
    """Leave out sentences that occurred before anywhere in the corpus."""
    near: bool = False
    """Leave out documents that resemble an earlier one (MinHash over 5-character shingles)."""
    near_threshold: float = Field(0.8, gt=0, lt=1)
    """Jaccard similarity above which documents resemble each other."""
    near_permutations: int = Field(128, ge=16, le=1024)
    """Hash functions of MinHash: more are slower and sharper."""


class Words(Recipe):
    """Word boundaries for whole-word masking."""

    segmenter: Literal[SEGMENTERS] = "rjieba"
    """`jieba` is the reference; `rjieba` cuts the same way but for some ASCII runs, and faster."""
    hmm: bool = True
    """Let a hidden Markov model find words that the dictionary lacks."""


class Train(Recipe):
    """A vocabulary made from this very text."""

    size: int = Field(21128, ge=100, le=1 << 20)
    """Tokens, the five special ones among them."""
    min_count: int = Field(2, ge=1)
    """Characters and pieces that occur less often are left to [UNK]."""
    sample_mb: int = Field(2000, ge=1)
    """Text to look at, spread evenly over the corpus."""


class Vocab(Recipe):
    """The vocabulary: `file` or `train`."""

    file: Path | None = None
    """A BERT vocab.txt."""
    train: Train | None = None
    """Train one on the cleaned text."""
    lower_case: bool = True
    """As the tokenizer of all published Chinese models does; also strips accents."""
    max_unk_share: float = Field(0.02, ge=0, le=1)
    """More [UNK] than this among the tokens is an error."""

    @model_validator(mode="after")
    def _one_origin(self):
        if (self.file is None) == (self.train is None):
            raise ValueError("give either file or train")
        return self


class Run(Recipe):
    """How the build runs. Nothing here changes the shards, so it may change between runs."""

    workers: int = Field(0, ge=0)
    """Processes; 0 takes all cores. With Dask and a scheduler, its workers count instead."""
    engine: Literal["local", "dask"] = "local"
    """`local` is processes on this machine, `dask` a cluster (pip extra `cluster`)."""
    scheduler: str | None = None
    """dask: address such as tcp://host:8786 (dask-jobqueue on Slurm and dask-kubernetes give one),
    or the scheduler's file. None starts a cluster on this machine. Workers must see the same files
    under the same paths."""
    memory_mb: int = Field(128, ge=1)
    """What finding duplicates may take in one process; more text makes more partitions."""
    damaged_files: Literal["stop", "skip"] = "stop"
    """What to do with a file that breaks off or will not decompress: skip uses what was readable
    and counts it."""


class BuildRecipe(Recipe):
    """Everything that `python -m data_pipeline build` needs."""

    output_dir: Path
    """Where the shards go. Must hold no shards of another recipe."""
    sources: tuple[Source, ...] = Field(min_length=1)
    """Read in this order; files in the order of their names."""
    clean: Clean = Clean()
    dedup: Dedup = Dedup()
    words: Words = Words()
    vocab: Vocab
    max_length: int = Field(128, ge=8)
    """Tokens of a sample at most, [CLS] and [SEP] counted."""
    pack: Literal["sentence", "document", "corpus"] = "document"
    """One sentence a sample; or as many as fit, within a document or across them."""
    piece_mb: float = Field(64, gt=0)
    """Text that becomes one shard; what a process works on at a time."""
    run: Run = Run()

    def content(self) -> dict[str, Any]:
        """The plain values that decide what is in the shards."""
        return self.model_dump(mode="json", exclude={"output_dir", "run"})
