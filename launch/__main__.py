"""`python -m launch`: train on one or many nodes, run a list of stages, plan, watch, or check."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from data_pipeline.base import recipes
from data_pipeline.base.errors import command


@command
def main(argv: list[str] | None = None) -> int:
    """The first word names the command; without one of them, a recipe is trained."""
    argv = sys.argv[1:] if argv is None else argv
    if argv and argv[0] in COMMANDS:
        return COMMANDS[argv[0]](argv[1:])
    from launch.train import train

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


def plan(argv: list[str]) -> int:
    """Estimate memory, time and disk of a run."""
    from launch.plan import plan as run_plan

    return run_plan(argv)


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "doctor": doctor,
    "plan": plan,
    "stages": stages,
}


if __name__ == "__main__":
    sys.exit(main())
