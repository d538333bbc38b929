"""`python -m launch`: run a training recipe on one box or many, a list of stages, or the doctor."""

import argparse
import json
import os
import sys
from pathlib import Path

from data_pipeline.base import recipes
from data_pipeline.base.errors import UserError, command

USAGE = """\
python -m launch RECIPE.yaml [options] [--key.subkey value ...]   check, train, restart
       python -m launch stages STAGES.yaml [--again STAGE] [--json]      run a list of stages
       python -m launch doctor [--json]                                  versions, and whether the
                                                                         parts work together"""


@command
def main(argv: list[str] | None = None) -> int:
    """Dispatch on the first word."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["doctor"]:
        return doctor(argv[1:])
    if argv[:1] == ["stages"]:
        return stages(argv[1:])
    return train(argv)


def doctor(argv: list[str]) -> int:
    """Print what is here and whether it works; exit code 1 when something does not."""
    parser = argparse.ArgumentParser(prog="python -m launch doctor", description=doctor.__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    from launch.doctor import as_text, report

    values = report(Path.cwd())
    print(json.dumps(values, ensure_ascii=False) if options.json else as_text(values))
    return 0 if values["ok"] else 1


def stages(argv: list[str]) -> int:
    """Run the stages of a file in order; finished ones are not run again."""
    parser = argparse.ArgumentParser(prog="python -m launch stages", description=stages.__doc__)
    parser.add_argument("file", type=Path, help="YAML list of stages")
    parser.add_argument("--again", metavar="STAGE", help="run this stage even if it has finished")
    parser.add_argument("--json", action="store_true", help="print the record as JSON at the end")
    options = parser.parse_args(argv)
    from launch.stages import StageList, execute, summary

    stage_list = recipes.load(StageList, options.file)
    record = execute(stage_list, again=options.again)
    print(json.dumps(record) if options.json else summary(stage_list, record))
    return 0


def train(argv: list[str]) -> int:
    """Check, then run the ranks of a training recipe, restarting them when some are lost."""
    parser = argparse.ArgumentParser(
        prog="python -m launch", usage=USAGE, description=train.__doc__
    )
    parser.add_argument("recipe", type=Path, help="training recipe, for example distill.yaml")
    parser.add_argument(
        "--kind", choices=["distill", "mlm"], help="default: as the recipe's keys say"
    )
    parser.add_argument(
        "--nproc_per_node", type=int, help="ranks a node; default: one a GPU, else 2"
    )
    parser.add_argument("--nnodes", type=int, default=1, help="nodes")
    parser.add_argument("--node_rank", type=int, default=-1, help="number of this node")
    parser.add_argument("--master", help="host:port where the nodes meet")
    parser.add_argument("--max_restarts", type=int, default=3, help="in a row without progress")
    parser.add_argument("--dry_run", action="store_true", help="check and print the command only")
    parser.add_argument("--json", action="store_true", help="with --dry_run: print as JSON")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--slurm", action="store_true", help="print a Slurm batch script")
    group.add_argument("--k8s", action="store_true", help="print Kubernetes objects")
    options, overrides = parser.parse_known_args(argv)

    from launch import cluster, environment, preflight, supervise
    from launch import job as jobs

    values = recipes.read_yaml(options.recipe)
    output_dir = Path(_final_value(values, overrides, "output_dir"))
    job = recipes.check(
        jobs.Job,
        {
            "recipe": options.recipe,
            "overrides": overrides,
            "entry": jobs.entry_of(options.kind or ("mlm" if "masking" in values else "distill")),
            "nproc_per_node": options.nproc_per_node or environment.default_ranks(),
            "nnodes": options.nnodes,
            "node_rank": options.node_rank,
            "master": options.master,
            "log_dir": output_dir / "log",
        },
        where="command line",
    )
    if options.slurm or options.k8s:
        placed = cluster.Cluster(name=output_dir.name, gpus_per_node=job.nproc_per_node)
        print((cluster.slurm if options.slurm else cluster.kubernetes)(job, placed))
        return 0
    problems = preflight.problems(job, output_dir)
    if problems:
        raise UserError(
            f"{options.recipe}: {len(problems)} problem(s)\n"
            + "\n".join(f"  {problem}" for problem in problems)
        )
    words = jobs.command(job)
    extra = {**environment.best_for_cpu(job.nproc_per_node), **environment.quiet()}
    if options.dry_run:
        print(json.dumps({"command": words, "environment": extra}) if options.json else
              " ".join([*(f"{k}={v}" for k, v in extra.items()), *words]))  # fmt: skip
        return 0
    return supervise.Supervisor(
        command=words,
        environment={**os.environ, **extra},
        checkpoints=output_dir / "checkpoints",
        max_restarts=options.max_restarts,
    ).run()


def _final_value(values: dict, overrides: list[str], key: str):
    """The value of a top-level key after overrides; UserError when there is none."""
    final = {**values, **dict(recipes.parse_overrides(overrides))}
    if not final.get(key):
        raise UserError(f"{key}: missing; the recipe must say where the run is written")
    return final[key]


if __name__ == "__main__":
    sys.exit(main())
