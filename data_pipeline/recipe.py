"""The recipe of a build: what text, cleaned how, into which vocabulary and shards."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from data_pipeline.base.recipes import Recipe, wrong_together
from data_pipeline.sources.settings import CorpusSource, TaskSource
from data_pipeline.text.settings import Clean, Vocab, Words


class Dedup(Recipe):
    """What counts as a duplicate. The first occurrence stays."""

    exact: bool = True
    """Leave out sentences that occurred before anywhere in the corpus."""
    exact_min_chars: int = Field(10, ge=0)
    """Shorter sentences stay however often they occur: 谢谢大家。 belongs to many documents."""
    near: bool = False
    """Leave out documents that resemble an earlier one (MinHash over 5-character shingles)."""
    near_threshold: float = Field(0.8, gt=0, lt=1)
    """Jaccard similarity above which documents resemble each other. Of the pairs that are just as
    similar 90% are found; the manifest has the share for other similarities."""
    near_permutations: int = Field(128, ge=16, le=1024)
    """Hash functions of MinHash: more are slower and sharper."""


class Holdout(Recipe):
    """Documents set aside in OUTPUT/holdout, as shards of their own. They go through the same
    duplicate removal, so that no sentence or document of theirs is in the other shards."""

    share: float = Field(0.0, ge=0, le=0.5)
    """Of all documents."""
    documents: int = Field(0, ge=0)
    """About how many, instead of a share."""

    @model_validator(mode="after")
    def _one_size(self):
        if self.share and self.documents:
            raise wrong_together("give share or documents, not both", "share", "documents")
        return self


class Run(Recipe):
    """How the build runs. Nothing here changes the shards, so it may change between runs."""

    workers: int = Field(0, ge=0)
    """Processes; 0 takes all cores. With Dask and a scheduler, its workers count instead."""
    engine: Literal["local", "dask", "slurm"] = "local"
    """`local` is processes on this machine, `dask` a cluster (pip extra `cluster`), `slurm` an
    array job for each step."""
    slurm_options: tuple[str, ...] = ()
    """slurm: lines for the batch script, such as `--partition=cpu` or `--mem=8G`."""
    scheduler: str | None = None
    """dask: address such as tcp://host:8786 (dask-jobqueue on Slurm and dask-kubernetes give one),
    or the scheduler's file. None starts a cluster on this machine. Workers must see the same files
    under the same paths."""
    memory_mb: int = Field(0, ge=0)
    """MB that finding duplicates may use in one worker; more text makes more partitions. 0 is half
    of the machine's memory divided by the workers, with Dask half of a worker's memory limit. With
    Slurm, set it to about half of what an element of the array gets (--mem)."""
    retries: int = Field(2, ge=0)
    """How often a task is tried again after an I/O error that may pass, such as a stale handle."""
    damaged_files: Literal["stop", "skip"] = "stop"
    """What to do with a file that breaks off or will not decompress: skip uses what was readable
    and counts it."""


class BuildRecipe(Recipe):
    """Everything that `python -m data_pipeline build` needs."""

    output_dir: Path
    """Where the shards go. Must hold no shards of another recipe."""
    sources: tuple[CorpusSource, ...] = Field(min_length=1)
    """Read in this order; files in the order of their names."""
    clean: Clean = Clean()
    dedup: Dedup = Dedup()
    words: Words = Words()
    vocab: Vocab
    decontaminate: tuple[TaskSource, ...] = ()
    """Task files whose texts are kept out of the shards, by equal text and by runs of 13 characters
    in common. CLUE's .json files: `{name: tnews, path: tnews/dev.json, fields: [sentence]}`."""
    holdout: Holdout = Holdout()
    max_length: int = Field(128, ge=8)
    """Tokens of a sample at most, [CLS] and [SEP] counted."""
    pack: Literal["sentence", "document", "corpus"] = "document"
    """One sentence a sample; or as many as fit, within a document or across them."""
    piece_mb: float = Field(64, gt=0)
    """Text that becomes one shard; what a process works on at a time."""
    exclude: Literal["off", "sample", "all"] = "off"
    """Write the text that is left out, with its reason, to OUTPUT/excluded/*.jsonl.zst: all of it,
    or one text in a hundred. What `sample` and `limit_mb` of a source leave unread is no part of
    it. Does not change the shards."""
    run: Run = Run()

    @model_validator(mode="after")
    def _weights_of_all(self):
        given = [source.weight is not None for source in self.sources]
        if any(given) and not all(given):
            raise wrong_together("give all sources a weight, or none", "sources")
        return self

    def content(self) -> dict[str, Any]:
        """The plain values that decide what is in the shards."""
        return self.model_dump(mode="json", exclude={"output_dir", "run", "exclude"})
