"""`python -m finetune COMMAND`: from a released encoder to a small, fast classifier."""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if not __package__:  # started by its path, as paddle.distributed.launch does: this folder's modules
    sys.path[0] = str(Path(__file__).parents[1])  # must not be found under their bare names

from data_pipeline.base import processes
from data_pipeline.base.errors import UserError, command
from data_pipeline.base.quiet import without_startup_talk
from data_pipeline.base.recipes import Recipe, check, load, overridden
from finetune import compress, recipes, stages
from finetune.clue import clue
from finetune.deploy.pooling import POOLINGS
from finetune.training import ranks
from finetune.training.search import search
from pretrain import entry


@dataclass(frozen=True)
class Command:
    """One command with a recipe."""

    function: Callable[[Any], Any]
    """Takes the recipe; what it returns is printed by --json."""
    recipe: type[Recipe]
    help: str
    several_ranks: bool = False
    """Whether it can be started by paddle.distributed.launch."""


def serve(recipe: recipes.ServeRecipe) -> str:
    """Serve a model over HTTP until told to stop."""
    from finetune.serve.service import run_service  # FastAPI and uvicorn take half a second

    return run_service(recipe)


def predict(arguments: argparse.Namespace) -> int:
    """Classify texts, find entities in them or score them."""
    from finetune.deploy.predict_command import predict_texts

    return predict_texts(arguments)


def embed(arguments: argparse.Namespace) -> int:
    """Give each text a vector."""
    from finetune.deploy.embed_command import embed_texts

    return embed_texts(arguments)


ON_TEXTS = {"predict": predict, "embed": embed}  # commands that take texts and no recipe
OF_MODELS = ("serve", "text_in")  # commands that take a model directory in place of a recipe
COMMANDS = {
    "train": Command(stages.train, recipes.TrainRecipe, "fine-tune an encoder on a task", True),
    "search": Command(search, recipes.SearchRecipe, "search for the best training settings"),
    "clue": Command(clue, recipes.ClueRecipe, "the seven CLUE tasks, with files to submit"),
    "prune": Command(stages.prune, recipes.PruneRecipe, "make narrower classifiers", True),
    "sparsify": Command(stages.sparsify, recipes.SparseRecipe, "prune single weights", True),
    "qat": Command(stages.qat, recipes.QatRecipe, "train with rounding to 8 bits", True),
    "export": Command(stages.export, recipes.ExportRecipe, "write a static graph: ONNX or Paddle"),
    "quantise": Command(stages.quantise, recipes.QuantiseRecipe, "make an INT8 model"),
    "text_in": Command(stages.text_in, recipes.TextInRecipe, "write one ONNX file for strings"),
    "sweep": Command(stages.sweep, recipes.SweepRecipe, "compare calibrations for INT8"),
    "report": Command(stages.report, recipes.ReportRecipe, "measure accuracy, latency and size"),
    "serve": Command(serve, recipes.ServeRecipe, "classify over HTTP"),
    "compress": Command(
        compress.compress, recipes.CompressRecipe, "all stages from one recipe", True
    ),
}


@command
@without_startup_talk()
def main(argv: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    processes.end_with_launcher()
    processes.take_threads()
    argv = argv or sys.argv[1:]
    if len(argv) > 1 and argv[0] in OF_MODELS and Path(argv[1]).is_dir():
        return run_on_model(argv[0], argv[1], argv[2:])
    arguments, rest = parser().parse_known_args(with_config(argv))
    chosen = COMMANDS.get(arguments.command)
    if chosen is None or not chosen.several_ranks:
        ranks.require_one(arguments.command)
    if chosen is None:
        if rest:
            raise UserError(f"unexpected argument {rest[0]!r}")
        return ON_TEXTS[arguments.command](arguments)
    output = chosen.function(load(chosen.recipe, arguments.config, rest))
    ranks.leave()
    if arguments.json and ranks.current().rank == 0:
        print(json.dumps({"output": output}, ensure_ascii=False, default=str))
    return 0


def run_on_model(name: str, model: str, overrides: list[str]) -> int:
    """`serve DIR --key VALUE`: the default recipe of a command, for a model directory."""
    chosen = COMMANDS[name]
    ranks.require_one(name)
    chosen.function(check(chosen.recipe, overridden({"model": model}, overrides), name))
    return 0


def with_config(argv: list[str]) -> list[str]:
    """`compress RECIPE.yaml` means `compress --config RECIPE.yaml`."""
    if len(argv) > 1 and argv[0] in COMMANDS and not argv[1].startswith("-"):
        return [argv[0], "--config", *argv[1:]]
    return argv


def parser() -> argparse.ArgumentParser:
    """The commands and their arguments; imports nothing heavy."""
    top = argparse.ArgumentParser(prog="python -m finetune", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, item in COMMANDS.items():
        added = commands.add_parser(
            name, help=item.help, epilog="--key.subkey VALUE overrides a setting"
        )
        added.add_argument("--config", required=True, metavar="RECIPE.yaml")
        added.add_argument("--json", action="store_true", help="print one JSON object at the end")
    add_predict(commands)
    add_embed(commands)
    return top


def add_predict(commands) -> None:
    """The arguments of `predict`."""
    added = commands.add_parser("predict", help="classify lines of text")
    added.add_argument("model", help="a directory that export, quantise or train wrote")
    add_texts(added, "UTF-8 file, one text a line (a tab separates a pair)")
    added.add_argument("--pair", metavar="COLUMN", help="column of the second text, if any")
    added.add_argument("--output", metavar="FILE", help="write one JSON object a line there")
    added.add_argument("--json", action="store_true", help="print JSON with all probabilities")


def add_embed(commands) -> None:
    """The arguments of `embed`."""
    added = commands.add_parser("embed", help="give each line of text a vector")
    added.add_argument("model", help="an encoder directory, or what export wrote of one")
    add_texts(added, "UTF-8 file, one text a line")
    added.add_argument("--output", metavar="FILE.npy", help="float32 [texts, H]; else JSON lines")
    added.add_argument("--pooling", choices=POOLINGS, help="mean over tokens (default) or [CLS]")
    added.add_argument("--normalise", action=argparse.BooleanOptionalAction, default=None)
    added.add_argument("--max_length", type=int, metavar="N", help="tokens of a text (128)")
    added.add_argument("--pair", metavar="COLUMN", help="second text; with --score, print how the")
    added.add_argument("--score", metavar="COLUMN", help="cosines of pairs correlate with scores")


def add_texts(added: argparse.ArgumentParser, what: str) -> None:
    """Where the texts of a command come from."""
    added.add_argument("texts", nargs="*", help="texts; by default the lines of --input or stdin")
    added.add_argument("--input", help=what)
    added.add_argument("--text", metavar="COLUMN", help="--input is a .tsv, .csv or .jsonl table")
    added.add_argument("--threads", type=int, default=2, choices=range(1, 1025), metavar="N")


if __name__ == "__main__":
    entry.end(main())
