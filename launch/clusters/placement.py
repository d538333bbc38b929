"""What a scheduler is told besides the job itself."""

import argparse
import re
import shlex

from pydantic import Field, model_validator

from data_pipeline.base import recipes
from data_pipeline.base.recipes import Recipe
from launch.job import Job

GRACE_MARGIN = 30  # seconds in which killed ranks, launcher and supervisor end


class Placement(Recipe):
    """Resources, places and names."""

    name: str = Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=52)
    """Of the job: lower-case letters, digits and dashes, as Kubernetes wants it."""
    gpus_per_node: int = Field(ge=0)
    """GPUs that each node asks for; by default one a rank."""
    cpus_per_rank: int = Field(8, ge=1)
    """Cores for each rank and its reading threads."""
    hours: int = Field(72, ge=1)
    """Longest time of one job; after that it is saved and continues in a new one."""
    grace_seconds: int = Field(180, ge=60)
    """Between the request to save and the end of the job."""
    partition: str | None = None
    """Slurm partition."""
    account: str | None = None
    """Slurm account."""
    setup: tuple[str, ...] = ()
    """Slurm: shell lines before the start, for example `module load cuda/12.6`."""
    srun_options: tuple[str, ...] = ()
    """Slurm: further options of srun, for example those of a container runtime."""
    max_requeues: int = Field(100, ge=0)
    """Slurm: how often the job may put itself back into the queue."""
    image: str = "ppminilm-fleet:latest"
    """Kubernetes: the container image; see docker/Dockerfile."""
    volumes: tuple[str, ...] = ("ppminilm-data:/workspace/data",)
    """Kubernetes: `CLAIM:PATH` of each persistent volume claim. Recipes name files below PATH."""
    workdir: str = "/workspace"
    """Kubernetes: directory that the paths of the recipe start from."""

    @model_validator(mode="after")
    def _volumes_have_places(self):
        for volume in self.volumes:
            if not re.fullmatch(r"[a-z0-9][-a-z0-9.]*:/.+", volume):
                raise ValueError(f"volumes: {volume!r} is not CLAIM:/PATH")
        return self


# Options of the command line whose name is not the field's; those of lists are given repeatedly.
OPTIONS = {"name": "job_name", "setup": "setup", "srun_options": "srun_option", "volumes": "volume"}
LISTS = ("setup", "srun_options", "volumes")
ELSEWHERE = ("grace_seconds",)  # an option of `python -m launch` already


def add_arguments(parser: argparse._ActionsContainer) -> None:
    """One option for each field, with the field's documentation."""
    for field, info in Placement.model_fields.items():
        if field not in ELSEWHERE:
            parser.add_argument(
                f"--{OPTIONS.get(field, field)}",
                dest=f"placement_{field}",
                metavar=field.upper(),
                help=(info.description or "").replace("%", "%%"),
                action="append" if field in LISTS else "store",
            )


def from_options(options: argparse.Namespace, job: Job, name: str) -> Placement:
    """The placement of a job.

    Raises:
        UserError: an option is out of its bounds.
    """
    given = {
        field: getattr(options, f"placement_{field}")
        for field in Placement.model_fields
        if field not in ELSEWHERE and getattr(options, f"placement_{field}") is not None
    }
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    values = {"name": plain or "run", "gpus_per_node": job.nproc_per_node, **given}
    if options.grace_seconds is not None:
        values["grace_seconds"] = options.grace_seconds
    return recipes.check(Placement, values, where="command line")


def node_command(job: Job, placement: Placement, master: str, node_rank: str) -> str:
    """`python -m launch` for one node, as shell text; `master` and `node_rank` may be shell
    expressions."""
    line = ["python", "-m", "launch", str(job.recipe)]
    line += ["--nproc_per_node", str(job.nproc_per_node), "--nnodes", str(job.nnodes)]
    line += ["--grace_seconds", str(placement.grace_seconds - GRACE_MARGIN)]
    words = [*map(shlex.quote, line)]
    if job.nnodes > 1:
        words += ["--master", f'"{master}"', "--node_rank", f'"{node_rank}"']
    return " ".join([*words, *map(shlex.quote, job.overrides)])
