"""`python -m launch RECIPE.yaml`: check, then train, on one node or as one node of several."""

import argparse
import json
import os
import socket
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from data_pipeline.base import recipes
from data_pipeline.base.errors import UserError
from data_pipeline.base.exits import FINISHED, NOT_FINITE, USER_ERROR
from launch import environment, preflight
from launch.clusters import kubernetes, placement, slurm
from launch.job import Job, command, entry_of, planned_start, recipe_sha256
from launch.nodes import addresses
from launch.nodes.coordinator import Limits
from launch.nodes.member import Member
from launch.nodes.messages import Join
from launch.restarts import Restarts
from launch.supervise import Supervisor

USAGE = """\
python -m launch RECIPE.yaml [options] [--key.subkey value ...]   check, train, restart
       python -m launch stages STAGES.yaml [--again STAGE] [--json]      run a list of stages
       python -m launch plan RECIPE.yaml --gpus N --gpu KIND             memory, time and disk
       python -m launch watch RUN                                        a running run on one screen
       python -m launch doctor [--gpu] [--json]                          versions, and whether the
                                                                         parts work together"""
GRACE_SECONDS = 120  # for the ranks to save after SIGTERM
COMPARED = ("ppminilm-fleet", "paddlepaddle", "paddlepaddle-gpu", "numpy")


def parser() -> argparse.ArgumentParser:
    """The options; every other `--key.subkey value` is one of the recipe."""
    top = argparse.ArgumentParser(
        prog="python -m launch", usage=USAGE, description=__doc__, allow_abbrev=False
    )
    top.add_argument("recipe", type=Path, help="training recipe, for example distill.yaml")
    top.add_argument("--kind", choices=["distill", "mlm"], help="default: as the recipe's keys say")
    top.add_argument("--nproc_per_node", type=int, help="ranks a node; default: one a GPU, else 2")
    top.add_argument("--nnodes", type=int, default=1, help="nodes")
    top.add_argument("--node_rank", type=int, default=-1, help="number of this node, from 0")
    top.add_argument("--master", help="host:port of node 0, where the nodes meet")
    top.add_argument("--host", default="", help="address of this node, if not found by itself")
    top.add_argument("--max_restarts", type=int, default=3, help="in a row without progress")
    top.add_argument(
        "--join_seconds", type=float, default=600, help="for all nodes to come at the start (600)"
    )
    top.add_argument(
        "--rejoin_seconds", type=float, default=600, help="for a lost node to come back (600)"
    )
    top.add_argument(
        "--grace_seconds", type=int, help="for ranks to save after SIGTERM (120; clusters: 180)"
    )
    top.add_argument(
        "--kubeflow_codes",
        action="store_true",
        help="end with 128 + code after what a new start may cure, as Kubeflow's operator wants it",
    )
    top.add_argument("--dry_run", action="store_true", help="check and print the command only")
    top.add_argument("--json", action="store_true", help="with --dry_run: print as JSON")
    cluster = top.add_argument_group("cluster", "print what to submit instead of training")
    kind = cluster.add_mutually_exclusive_group()
    kind.add_argument("--slurm", action="store_true", help="a Slurm batch script")
    kind.add_argument("--k8s", action="store_true", help="Kubernetes: a Service and an indexed Job")
    kind.add_argument("--paddlejob", action="store_true", help="a PaddleJob of Kubeflow")
    cluster.add_argument(
        "--unchecked",
        action="store_true",
        help="print it even if the checks fail here, where the cluster's files are not",
    )
    placement.add_arguments(cluster)
    return top


def train(argv: list[str]) -> int:
    """Check, then run the ranks of a training recipe, restarting them when some are lost."""
    options, overrides = parser().parse_known_args(argv)
    values = recipes.values_of(options.recipe, overrides)
    output_dir = values.get("output_dir")
    if not output_dir:
        raise UserError("output_dir: missing; the recipe must name the directory of the run")
    output_dir = Path(output_dir)
    job = recipes.check(
        Job,
        {
            "recipe": options.recipe,
            "overrides": overrides,
            "entry": entry_of(options.kind or ("mlm" if "masking" in values else "distill")),
            "nproc_per_node": options.nproc_per_node or environment.default_ranks(),
            "nnodes": options.nnodes,
            "node_rank": options.node_rank,
            "master": options.master,
            "host": options.host,
            "log_dir": output_dir / "log",
        },
        where="command line",
    )
    if options.slurm or options.k8s or options.paddlejob:
        return _print_for_cluster(job, options, output_dir)
    problems = preflight.problems(job, output_dir)
    alone = job.nnodes == 1
    if problems and (alone or options.dry_run):
        raise UserError(preflight.as_text(options.recipe, problems))
    extra = {**environment.best_for_cpu(job.nproc_per_node), **environment.quiet()}
    if options.dry_run:
        line = command(job, planned_start(job))
        print(json.dumps({"command": line, "environment": extra}) if options.json else
              " ".join([*(f"{k}={v}" for k, v in extra.items()), *line]))  # fmt: skip
        return 0
    supervisor = _supervisor(job, options, output_dir, {**os.environ, **extra}, problems)
    code = supervisor.supervise()
    if options.kubeflow_codes and code not in (FINISHED, USER_ERROR, NOT_FINITE):
        return 128 + code % 128
    return code


def _supervisor(
    job: Job,
    options: argparse.Namespace,
    output_dir: Path,
    variables: dict[str, str],
    problems: list[str],
) -> Supervisor | Member:
    checkpoints = output_dir / "checkpoints"
    restarts = Restarts(options.max_restarts)
    grace_seconds = options.grace_seconds or GRACE_SECONDS
    if job.nnodes == 1:
        return Supervisor(
            command(job),
            variables,
            checkpoints,
            restarts=restarts,
            grace_seconds=grace_seconds,
            report=report,
        )
    join = Join(
        node=job.node_rank,
        host=socket.gethostname(),
        address=job.host,
        nproc_per_node=job.nproc_per_node,
        recipe_sha256=recipe_sha256(job),
        versions=versions(),
        problems=problems,
    )
    return Member(
        addresses.Master.parse(job.master),
        job.nnodes,
        join,
        lambda start: command(job, start),
        variables,
        checkpoints,
        restarts=restarts,
        limits=Limits(options.join_seconds, options.rejoin_seconds),
        grace_seconds=grace_seconds,
        report=report,
    )


def report(message: str) -> None:
    """A message of the supervisor, in the node's own output."""
    print(f"launch: {message}", flush=True)


def versions() -> dict[str, str]:
    """What must be the same on all nodes."""
    installed = {}
    for name in COMPARED:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    return installed


def _print_for_cluster(job: Job, options: argparse.Namespace, output_dir: Path) -> int:
    place = placement.from_options(options, job, output_dir.name)
    problems = preflight.check_recipe(job.recipe, job.overrides, job.world_size).problems
    if problems and not options.unchecked:
        raise UserError(
            preflight.as_text(options.recipe, problems)
            + "\n  --unchecked prints the text all the same"
        )
    for problem in problems:
        print(f"warning: {problem}", file=sys.stderr)
    if options.slurm:
        print(slurm.script(job, place), end="")
    elif options.k8s:
        print(kubernetes.indexed_job(job, place), end="")
    else:
        print(kubernetes.paddle_job(job, place), end="")
    return 0
