"""`python -m launch`: train on one or many nodes, run a list of stages, plan, watch, or check."""

import argparse
import functools
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
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
    parser.add_argument(
        "--gpu", action="store_true", help="train on the GPU and compare with the CPU (minutes)"
    )
    parser.add_argument(
        "--device", choices=["gpu", "cpu"], default="gpu", help="with --gpu: where to train (gpu)"
    )
    parser.add_argument("--output", type=Path, help="with --gpu: write the JSON object here too")
    options = parser.parse_args(argv)
    if options.gpu:
        return _self_check(options)
    from launch.doctor import as_text, report

    values = report(Path.cwd())
    print(json.dumps(values, ensure_ascii=False) if options.json else as_text(values))
    return 0 if values["ok"] else 1


def _self_check(options: argparse.Namespace) -> int:
    from data_pipeline.base.files import write_json
    from launch.selfcheck.report import self_check

    show = (lambda _: None) if options.json else functools.partial(print, flush=True)
    with tempfile.TemporaryDirectory(prefix="ppminilm-selfcheck-") as folder:
        values = self_check(Path(folder), options.device, show)
    if options.output:
        write_json(options.output, values)
    if options.json:
        print(json.dumps(values, ensure_ascii=False))
    elif not values["ok"]:
        where = options.output or "the output of --json"
        print(f"some checks failed; please open an issue with {where}")
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


def watch(argv: list[str]) -> int:
    """Show where a run stands, again and again on a terminal."""
    parser = argparse.ArgumentParser(prog="python -m launch watch", description=watch.__doc__)
    parser.add_argument("run", type=Path, help="output_dir of a run")
    parser.add_argument("--interval", type=float, default=2.0, help="seconds (2)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and end")
    options = parser.parse_args(argv)
    from launch import watch as screen

    if options.json:
        print(json.dumps(asdict(screen.read_status(options.run, time.time()))))
    else:
        screen.watch(options.run, options.interval)
    return 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "doctor": doctor,
    "plan": plan,
    "stages": stages,
    "watch": watch,
}


if __name__ == "__main__":
    sys.exit(main())
