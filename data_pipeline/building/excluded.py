"""Text that a build leaves out, with the reason, for people to look at: excluded/*.jsonl.zst."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

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
    path = plan.folder / plan.id / FOLDER / f"{step}-{piece:05d}.jsonl.zst"
    with (
        whole_file(path) as temporary,
        temporary.open("wb") as file,
        zstandard.ZstdCompressor(level=3).stream_writer(file, closefd=False) as out,
    ):

        def report(reason: str, text: str) -> None:
            line = json.dumps({"reason": reason, "text": text}, ensure_ascii=False).encode()
            if mode == "all" or xxhash.xxh3_64_intdigest(line) % SAMPLED == 0:
                out.write(line + b"\n")

        yield report


def publish(plan: Plan, output_dir: Path) -> None:
    """Move what was written into the output directory."""
    made = sorted((plan.folder / plan.id / FOLDER).glob("*.jsonl.zst"))
    if made:
        (output_dir / FOLDER).mkdir(exist_ok=True)
    for path in made:
        path.replace(output_dir / FOLDER / path.name)
