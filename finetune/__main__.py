"""`python -m finetune COMMAND`: from a released encoder to a small, quick classifier."""

import argparse
import importlib
import json
import sys
from pathlib import Path

if not __package__:  # started by its path, as paddle.distributed.launch does: this folder's modules
    sys.path[0] = str(Path(__file__).parents[1])  # must not be found under their bare names

from data_pipeline.base.errors import UserError, command
from data_pipeline.base.recipes import load
from finetune import recipes
from finetune.training import ranks
from pretrain import entry

# command: (where its function is, recipe class, what it does)
STAGES = {
    "train": ("finetune.stages:train", "TrainRecipe", "fine-tune an encoder on a task"),
    "search": ("finetune.training.search:run", "SearchRecipe", "find batch size and learning rate"),
    "prune": ("finetune.stages:prune", "PruneRecipe", "make narrower classifiers of a classifier"),
    "sparsify": ("finetune.stages:sparsify", "SparseRecipe", "prune single weights"),
    "qat": ("finetune.stages:qat", "QatRecipe", "train on with weights and inputs at 8 bits"),
    "export": ("finetune.stages:export", "ExportRecipe", "write a static graph: ONNX or Paddle"),
    "quantise": ("finetune.stages:quantise", "QuantiseRecipe", "make an INT8 model of an ONNX one"),
    "report": ("finetune.stages:report", "ReportRecipe", "measure accuracy, latency and size"),
    "serve": ("finetune.serve.run:run", "ServeRecipe", "classify over HTTP"),
    "compress": ("finetune.compress:run", "CompressRecipe", "all of it from one recipe"),
}


@command
def main(argv: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    arguments, rest = parser().parse_known_args(with_config(argv or sys.argv[1:]))
    if arguments.command == "predict":
        if rest:
            raise UserError(f"unexpected argument {rest[0]!r}")
        from finetune.deploy.predict_command import predict_texts

        return predict_texts(arguments)
    place, class_name, _ = STAGES[arguments.command]
    recipe = load(getattr(recipes, class_name), arguments.config, rest)
    module, _, function = place.partition(":")
    made = getattr(importlib.import_module(module), function)(recipe)
    ranks.leave()
    if arguments.json:
        print(json.dumps({"made": made}, ensure_ascii=False, default=_plain))
    return 0


def with_config(argv: list[str]) -> list[str]:
    """`compress RECIPE.yaml` means `compress --config RECIPE.yaml`."""
    if len(argv) > 1 and argv[0] in STAGES and not argv[1].startswith("-"):
        return [argv[0], "--config", *argv[1:]]
    return argv


def parser() -> argparse.ArgumentParser:
    """The commands and their arguments; imports nothing heavy."""
    top = argparse.ArgumentParser(prog="python -m finetune", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (_, _, text) in STAGES.items():
        one = commands.add_parser(name, help=text, epilog="--key.subkey VALUE overrides a setting")
        one.add_argument("--config", required=True, metavar="RECIPE.yaml")
        one.add_argument("--json", action="store_true", help="print one JSON object at the end")
    one = commands.add_parser("predict", help="classify lines of text")
    one.add_argument("model", help="a directory that export, quantise or train wrote")
    one.add_argument("texts", nargs="*", help="texts; without any, lines of --input or of stdin")
    one.add_argument("--input", help="file with one text a line (a tab separates a pair)")
    one.add_argument("--threads", type=int, default=2)
    one.add_argument("--json", action="store_true", help="print JSON with all probabilities")
    return top


def _plain(value):
    return str(value)


if __name__ == "__main__":
    entry.end(main())
