"""A training job: where it runs, and the command that runs it."""

import hashlib
import json
import sys
from pathlib import Path

from pydantic import Field

from data_pipeline.base import recipes
from data_pipeline.base.errors import UserError
from data_pipeline.base.recipes import Recipe
from launch.nodes.messages import Start

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
    """`host:port` of node 0, where the others meet; only for more than one node."""
    host: str = ""
    """This node's own address, where the one that reaches the master is not the one to use."""
    log_dir: Path
    """Where each rank's output is written; with several nodes, `node-N` below it."""

    @property
    def world_size(self) -> int:
        """Ranks in all."""
        return self.nproc_per_node * self.nnodes


def entry_of(kind: str) -> Path:
    """The training script for `distill` or `mlm`, as installed. It is named, never imported."""
    import importlib.util

    package = importlib.util.find_spec("pretrain")
    if package is None or package.origin is None:
        raise UserError("the package `pretrain` is not installed; install this project as a whole")
    return Path(package.origin).parent / ENTRIES[kind]


def command(job: Job, start: Start | None = None, python: str = sys.executable) -> list[str]:
    """The command line of `python -m paddle.distributed.launch` for one node.

    start: what node 0 has told this node; None for a single node.
    """
    line = [python, "-m", "paddle.distributed.launch"]
    # As an argument: that it is set by a variable would be a warning of its own.
    line += ["--log_level", "ERROR", "--nproc_per_node", str(job.nproc_per_node)]
    if start is None:
        line += ["--log_dir", str(job.log_dir)]
    else:
        line += ["--log_dir", str(job.log_dir / f"node-{start.node}"), "--nnodes", str(job.nnodes)]
        line += ["--master", start.master, "--host", start.address, "--rank", str(start.node)]
    return [*line, str(job.entry), "--config", str(job.recipe), *job.overrides]


def command_of(entry: Path, recipe: Path, ranks: int, log_dir: Path | None = None) -> list[str]:
    """The command line of a run on this machine without supervision; one rank needs no launcher."""
    if ranks == 1:
        return [sys.executable, str(entry), "--config", str(recipe)]
    job = Job(recipe=recipe, entry=entry, nproc_per_node=ranks, log_dir=log_dir or Path("log"))
    return command(job)


def planned_start(job: Job) -> Start | None:
    """What node 0 is going to say, as far as it is known before the nodes meet, for a dry run."""
    if job.nnodes == 1:
        return None
    host = job.master.rpartition(":")[0] if job.master else "ADDRESS_OF_NODE_0"
    own = job.host or "ADDRESS_OF_THIS_NODE"
    return Start(attempt=1, node=max(job.node_rank, 0), master=f"{host}:FREE_PORT", address=own)


def recipe_sha256(job: Job) -> str:
    """Digest of what the recipe says with overrides, by which nodes compare theirs."""
    values = recipes.values_of(job.recipe, list(job.overrides))
    text = json.dumps(values, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
