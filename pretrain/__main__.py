"""`python -m pretrain check|release|probe|plot`. A launcher starts training: run.py and mlm.py."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from data_pipeline.base.errors import UserError, command
from data_pipeline.base.quiet import without_startup_talk

if TYPE_CHECKING:
    from pretrain.training.settings import TrainingRecipe


@command
@without_startup_talk()
def main(argv: list[str] | None = None) -> int:
    """Dispatch on the first word."""
    parser = argparse.ArgumentParser(prog="python -m pretrain", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="find all that is wrong with a recipe")
    check.add_argument("--config", required=True, help="a distillation or MLM recipe")
    check.add_argument("--world_size", type=_positive, default=1, help="ranks it is meant for")
    check.add_argument("--json", action="store_true", help="print one JSON object")
    check.epilog = "Any value of the recipe: --key.subkey value"
    release = commands.add_parser("release", help="write a run's student as a model directory")
    release.add_argument("run", type=Path, help="output_dir of a distillation")
    release.add_argument("--output", type=Path, required=True, help="directory to write")
    release.add_argument(
        "--untrained", action="store_true", help="the student before its first step, to compare"
    )
    release.add_argument(
        "--fresh", action="store_true", help="random weights, even where layers are copied"
    )
    release.add_argument(
        "--format",
        choices=("paddlenlp", "hf"),
        default="paddlenlp",
        help="for PaddleNLP, or for Hugging Face's transformers and sentence-transformers",
    )
    release.add_argument("--json", action="store_true", help="print one JSON object")
    probe = commands.add_parser("probe", help="compare a teacher's layers and numbers of heads")
    probe.add_argument("--config", required=True, help="a distillation recipe")
    probe.add_argument("--output", type=Path, required=True, help="directory to write")
    probe.add_argument("--layers", type=_positive, nargs="+", default=[], help="all by default")
    probe.add_argument("--heads", type=_positive, nargs="+", default=[], help="R; the recipe's")
    probe.add_argument("--steps", type=int, default=100, help="of each short distillation; 0: none")
    probe.add_argument("--samples", type=_positive, default=256, help="of shards, for entropies")
    probe.add_argument(
        "--labelled", type=Path, metavar="JSONL", help="text and label; iNEWS titles by default"
    )
    probe.add_argument("--json", action="store_true", help="print one JSON object")
    probe.epilog = "Any value of the recipe: --key.subkey value"
    plot = commands.add_parser("plot", help="draw the curves of several runs in one picture")
    plot.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="output_dir of a run")
    plot.add_argument("--output", type=Path, default=Path("plot.png"), help="plot.png by default")
    plot.add_argument(
        "--metrics", nargs="+", default=[], help="names in metrics.jsonl, or prefixes such as loss/"
    )
    plot.add_argument("--smooth", type=_positive, default=1, help="records to take the mean of")
    plot.add_argument("--json", action="store_true", help="print one JSON object")
    options, rest = parser.parse_known_args(argv)
    if options.command == "check":
        return run_check(options, rest)
    if options.command == "probe":
        return run_probe(options, rest)
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return run_plot(options) if options.command == "plot" else run_release(options)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)


def run_check(options: argparse.Namespace, overrides: list[str]) -> int:
    """Print the problems of a recipe; exit code 2 when there are any."""
    from pretrain import check
    from pretrain.cost import cost_of

    recipe: TrainingRecipe | None = None
    wrong: dict[str, str] = {}
    try:
        recipe, wrong = check.read(check.kind_of(options.config), options.config, overrides)
        problems = check.problems(recipe, options.world_size, wrong)
    except UserError as error:
        problems = [str(error)]
    if options.json:
        cost = None
        if recipe is not None and not wrong:
            cost = cost_of(recipe, options.world_size).as_values()
        print(json.dumps({"problems": problems, "cost": cost}, ensure_ascii=False))
    elif problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise UserError(f"{options.config}: {len(problems)} problem(s)\n{lines}")
    else:
        print(f"{options.config}: no problems found")
    return 2 if problems else 0


def run_release(options: argparse.Namespace) -> int:
    """Write the release and say where it is."""
    from pretrain.release.write import release

    facts = release(options.run, options.output, options.untrained, options.format, options.fresh)
    opener = "PPMiniLMModel" if options.format == "paddlenlp" else "AutoModel"
    if options.json:
        print(json.dumps(facts, ensure_ascii=False))
    else:
        print(
            f"{options.output}: {facts['parameters'] / 1e6:.1f}M parameters after "
            f"{facts['steps']} steps; {opener}.from_pretrained({str(options.output)!r})"
        )
    return 0


def run_plot(options: argparse.Namespace) -> int:
    """Draw, print the last values and say where the picture is."""
    from pretrain.plot import plot, table

    shown = plot(options.runs, options.output, options.metrics, options.smooth)
    if options.json:
        print(json.dumps(shown, ensure_ascii=False))
    else:
        print(f"{table(shown)}\n{options.output}")
    return 0


def run_probe(options: argparse.Namespace, overrides: list[str]) -> int:
    """Measure the teacher's layers, print the table and say where the picture is."""
    from data_pipeline.base import recipes
    from pretrain.recipe import DistillRecipe

    recipe = recipes.load(DistillRecipe, options.config, overrides)
    from pretrain.probe.probe import Settings, probe, table

    settings = Settings(
        options.output,
        tuple(options.layers),
        tuple(options.heads),
        options.steps,
        options.samples,
        options.labelled,
    )
    result = probe(recipe, settings)
    if options.json:
        print(json.dumps(result, ensure_ascii=False))
    else:
        print(f"{table(result)}\n{options.output}: probe.json and probe.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
