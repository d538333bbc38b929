"""`python -m data_pipeline build|inspect|verify`."""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from data_pipeline.base.errors import UserError, command


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m data_pipeline", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True, metavar="build|inspect|verify")
    build = commands.add_parser(
        "build",
        help="raw text to shards; continues an interrupted build",
        epilog="Any field of the recipe can be set: --run.workers 8 --clean.min_chars=6",
    )
    build.add_argument("--config", required=True, type=Path, help="the recipe, YAML")
    inspect = commands.add_parser("inspect", help="statistics, a picture, some decoded samples")
    inspect.add_argument("directory", type=Path)
    inspect.add_argument("--samples", type=int, default=5, help="how many to decode (5)")
    inspect.add_argument("--seed", type=int, default=0, help="which ones")
    inspect.add_argument("--picture", type=Path, help="length histogram (DIRECTORY/lengths.png)")
    verify = commands.add_parser("verify", help="recompute every checksum, count and id range")
    verify.add_argument("directory", type=Path)
    for subcommand in (build, inspect, verify):
        subcommand.add_argument("--json", action="store_true", help="print one JSON object")
    return top


@command
def main(argv: list[str] | None = None) -> int:
    """Exit code 0; 1 when `verify` finds damage; 2 for a mistake of the user."""
    arguments, rest = parser().parse_known_args(argv)
    if rest and arguments.command != "build":
        raise UserError(f"unexpected argument {rest[0]!r}")
    return {"build": _build, "inspect": _inspect, "verify": _verify}[arguments.command](
        arguments, rest
    )


def _build(arguments: argparse.Namespace, overrides: list[str]) -> int:
    from data_pipeline.base import recipes
    from data_pipeline.building.build import build
    from data_pipeline.recipe import BuildRecipe

    recipe = recipes.load(BuildRecipe, arguments.config, overrides)
    manifest = build(recipe)
    if arguments.json:
        values = dataclasses.asdict(manifest)
        print(json.dumps({**values, "fingerprint": manifest.fingerprint}, ensure_ascii=False))
        return 0
    print(
        f"{recipe.output_dir}: {manifest.samples:,} samples, {manifest.tokens:,} tokens in "
        f"{len(manifest.shards)} shard(s), [UNK] {manifest.unk_share:.3%}, fingerprint "
        f"{manifest.fingerprint[:12]}\n"
        f"next: python -m data_pipeline inspect {recipe.output_dir}"
    )
    return 0


def _inspect(arguments: argparse.Namespace, _: list[str]) -> int:
    from data_pipeline.shards import inspection

    statistics = inspection.inspect(
        arguments.directory, arguments.samples, arguments.seed, arguments.picture
    )
    if arguments.json:
        print(json.dumps(statistics, ensure_ascii=False))
    else:
        print(inspection.as_text(statistics))
    return 0


def _verify(arguments: argparse.Namespace, _: list[str]) -> int:
    from data_pipeline.shards.verify import verify

    damage = verify(arguments.directory, quiet=arguments.json)
    if arguments.json:
        print(json.dumps({"directory": str(arguments.directory), "damage": damage}))
    elif damage:
        print("\n".join(f"damaged: {line}" for line in damage), file=sys.stderr)
    else:
        print(f"{arguments.directory}: no damage")
    return 1 if damage else 0


if __name__ == "__main__":
    sys.exit(main())
