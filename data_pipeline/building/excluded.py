"""Text that a build leaves out, with the reason, for people to look at: excluded/*.jsonl.zst."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import xxhash
import zstandard

from data_pipeline.base.files import whole_file
from data_pipeline.building.plan import Plan

FOLDER = "excluded"
SAMPLED = 100  # of `exclude: sample`: one text in so many, chosen by its hash

Report = Callable[[str, str], None]
"""Takes (reason, text)."""


@contextlib.contextmanager
def reporter(plan: Plan, step: str, piece: int) -> Iterator[Report]:
    """What a task reports the text that it leaves out to; written whole at its end."""
    mode = plan.recipe.exclude
    if mode == "off":
        yield lambda reason, text: None
        return
    with (
        whole_file(_file(plan, step, piece)) as temporary,
        temporary.open("wb") as file,
        zstandard.ZstdCompressor(level=3).stream_writer(file, closefd=False) as out,
    ):

        def report(reason: str, text: str) -> None:
            line = json.dumps({"reason": reason, "text": text}, ensure_ascii=False).encode()
            if mode == "all" or xxhash.xxh3_64_intdigest(line) % SAMPLED == 0:
                out.write(line + b"\n")

        yield report


def publish(plan: Plan, output_dir: Path, results: dict[str, list[dict[str, Any]]]) -> None:
    """Move what was written into the output directory.

    results: of the pieces, for each step that reports; `excluded` says whether it wrote a file.
    """
    folder = output_dir / FOLDER
    for step, of_pieces in results.items():
        for piece, result in enumerate(of_pieces):
            made = _file(plan, step, piece)
            if not result["excluded"] or (folder / made.name).exists():  # moved before a kill
                continue
            folder.mkdir(exist_ok=True)
            made.replace(folder / made.name)


def _file(plan: Plan, step: str, piece: int) -> Path:
    return plan.folder / plan.id / FOLDER / f"{step}-{piece:05d}.jsonl.zst"
