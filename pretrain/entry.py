"""What the two training scripts share: arguments, checks, and when nothing is to be done."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from data_pipeline.base.errors import UserError
from pretrain.recipe import Run


def main(
    recipe_type: type[Run],
    description: str,
    train: Callable[[Run], int],
    is_finished: Callable[[Run], bool],
    argv: list[str] | None = None,
) -> int:
    """Read the recipe, report all its problems or train; a finished run says so and ends well."""
    from pretrain import check

    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--config", required=True, help="recipe, a YAML file")
    parser.epilog = "Any value of the recipe: --key.subkey value"
    parser.add_argument(
        "--json", action="store_true", help="at the end, print where the run stands as JSON"
    )
    options, overrides = parser.parse_known_args(sys.argv[1:] if argv is None else argv)
    recipe, wrong = check.read(recipe_type, options.config, overrides)
    rank = int(os.environ.get("PADDLE_TRAINER_ID", "0"))
    if not wrong and is_finished(recipe):
        if rank == 0:
            print(f"{recipe.output_dir}: finished before; nothing to do")
        return _ended(recipe, 0, options.json)
    world_size = int(os.environ.get("PADDLE_TRAINERS_NUM", "1"))
    problems = check.problems(recipe, world_size, wrong)
    if problems:
        raise UserError(
            f"{options.config}: {len(problems)} problem(s)\n"
            + "\n".join(f"  {problem}" for problem in problems)
        )
    return _ended(recipe, train(recipe), options.json)


def _ended(recipe: Run, code: int, as_json: bool) -> int:
    """Say, on rank 0, where the run stands: the newest record of its metrics."""
    if as_json and int(os.environ.get("PADDLE_TRAINER_ID", "0")) == 0:
        from pretrain.training.metrics import read_metrics

        records = read_metrics(recipe.output_dir / "metrics.jsonl")
        newest = records[-1] if records else {}
        said = {"output_dir": str(recipe.output_dir), "exit_code": code, "metrics": newest}
        print(json.dumps(said), flush=True)
    return code


def end(code: int) -> NoReturn:
    """End a rank's process, with everything written.

    Beside other ranks nothing is torn down: whichever rank closes its connections first, Gloo's
    threads would abort the others in the middle of their own teardown.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if int(os.environ.get("PADDLE_TRAINERS_NUM", "1")) > 1:
        os._exit(code)
    sys.exit(code)
