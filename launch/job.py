"""A training job: where it runs, and the command that runs it."""

import sys
from pathlib import Path

from pydantic import Field

from data_pipeline.base.recipes import Recipe

ENTRIES = {"distill": "run.py", "mlm": "mlm.py"}


class Job(Recipe):
    """One training run as processes see it. What is trained is the training recipe's business."""

    recipe: Path
    """The training recipe, handed to the entry as it is."""
    overrides: tuple[str, ...] = ()
    """`--key.subkey value` pairs, handed to the entry as they are."""
    entry: Path
    """The script that every rank runs."""
    nproc_per_node: int = Field(ge=1)
    """Ranks on each node; on GPUs, one a GPU."""
    nnodes: int = Field(1, ge=1)
    """Nodes."""
    node_rank: int = Field(-1, ge=-1)
    """This node's number; -1 lets the master number the nodes."""
    master: str | None = None
    """`host:port` of the node that the others meet at; only for more than one node."""
    log_dir: Path
    """Where each rank's output is written."""

    @property
    def world_size(self) -> int:
        """Ranks in all."""
        return self.nproc_per_node * self.nnodes


def entry_of(kind: str) -> Path:
    """The training script for `distill` or `mlm`, as installed. It is named, never imported."""
    import importlib.util

    package = importlib.util.find_spec("pretrain")
    return Path(package.origin).parent / ENTRIES[kind]


def command(job: Job, python: str = sys.executable) -> list[str]:
    """The words of `python -m paddle.distributed.launch ...` for one node of the job."""
    words = [python, "-m", "paddle.distributed.launch"]
    words += ["--nproc_per_node", str(job.nproc_per_node), "--log_dir", str(job.log_dir)]
    if job.nnodes > 1:
        words += ["--nnodes", str(job.nnodes), "--master", str(job.master)]
        if job.node_rank >= 0:
            words += ["--rank", str(job.node_rank)]
    return [*words, str(job.entry), "--config", str(job.recipe), *job.overrides]
