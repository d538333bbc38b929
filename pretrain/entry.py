"""What the two training scripts share: arguments, checks, training, and the end of a process."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn, TypeVar

from data_pipeline.base import processes
from data_pipeline.base.errors import UserError
from data_pipeline.base.quiet import without_startup_talk
from pretrain.training.settings import TrainingRecipe
from pretrain.training.world import current

if TYPE_CHECKING:
    from paddle import nn

Build = Callable[..., "nn.Layer"]  # (recipe, manifest, world, ranks) -> the objective
R = TypeVar("R", bound=TrainingRecipe)


@without_startup_talk()
def main(
    recipe_type: type[R],
    description: str | None,
    build: Build,
    argv: list[str] | None = None,
    finish: "Callable[[nn.Layer, R], None] | None" = None,
) -> int:
    """Read the recipe, report all its problems or train; a finished run is not trained again.

    finish: called on rank 0 after the last step, to write what the run is for.
    """
    processes.end_with_launcher()
    processes.take_threads()
    from pretrain import check
    from pretrain.training.finished import is_finished

    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--config", required=True, help="recipe, a YAML file")
    parser.epilog = "Any value of the recipe: --key.subkey value"
    parser.add_argument(
        "--json", action="store_true", help="at the end, print the newest metrics as JSON"
    )
    options, overrides = parser.parse_known_args(sys.argv[1:] if argv is None else argv)
    recipe, wrong = check.read(recipe_type, options.config, overrides)
    if recipe is not None and not wrong and is_finished(recipe):
        if current().rank == 0:
            print(f"{recipe.output_dir}: this run is finished; nothing to do")
        return print_result(recipe, 0, options.json)
    # Rank 0 checks the files for all; another still reports what it cannot open itself.
    checked = recipe if current().rank == 0 else None
    problems = check.problems(checked, current().size, wrong)
    error = None
    if problems:
        error = UserError(
            f"{options.config}: {len(problems)} problem(s)\n"
            + "\n".join(f"  {problem}" for problem in problems)
        )
        if current().size == 1 or recipe is None:
            raise error
    assert recipe is not None  # one that cannot be read is a problem
    return print_result(recipe, train(recipe, build, finish, error), options.json)


def train(
    recipe: R,
    build: Build,
    finish: "Callable[[nn.Layer, R], None] | None" = None,
    error: UserError | None = None,
) -> int:
    """Join the other ranks, build the objective and train it; the exit code.

    error: what is wrong on this rank, perhaps on no other: all ranks are told, and end with it.
    """
    from data_pipeline.shards.format import Manifest
    from pretrain.training import parallel, precision
    from pretrain.training.loop import fit

    world = parallel.join(recipe.optimizer.sharded)
    ranks = parallel.share_groups(world, recipe.ranks_per_group(world.size))
    with parallel.fail_together(world):
        if error:
            raise error
        precision.configure(recipe.precision)
        manifest = Manifest.read(recipe.data.shards)
        objective = build(recipe, manifest, world, ranks)
    code = fit(objective, recipe, manifest, world, finish)
    parallel.leave(world)
    return code


def print_result(recipe: TrainingRecipe, code: int, as_json: bool) -> int:
    """Print, on rank 0 and where asked for, the newest record of the metrics; return `code`."""
    if as_json and current().rank == 0:
        from pretrain.training.records import read_metrics

        records = read_metrics(recipe.output_dir / "metrics.jsonl")
        result = {
            "output_dir": str(recipe.output_dir),
            "exit_code": code,
            "metrics": records[-1] if records else {},
        }
        print(json.dumps(result), flush=True)
    return code


def end(code: int) -> NoReturn:
    """End a rank's process, with everything written.

    With other ranks present nothing is torn down: whichever rank closes its connections first,
    Gloo's threads would abort the others in the middle of their own teardown.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if current().size > 1:
        os._exit(code)
    sys.exit(code)
