"""The plan of a build, kept in its working directory: what is read, in which pieces.

The working directory is `OUTPUT/.build`. It is removed when the build is finished.
"""

import dataclasses
import importlib.metadata
import json
import platform
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from data_pipeline.base.errors import UserError
from data_pipeline.base.files import write_json
from data_pipeline.base.functions import function_digest
from data_pipeline.base.recipes import check
from data_pipeline.recipe import BuildRecipe
from data_pipeline.sources.inputs import find_inputs, make_pieces
from data_pipeline.sources.parts import Input, Part
from data_pipeline.text import vocab

FOLDER = ".build"
FILE = "plan.json"
DECIDE = ("jieba", "rjieba", "rensa", "tokenizers", "xxhash", "h5py", "numpy")


@dataclass(frozen=True)
class Plan:
    """A recipe together with the inputs that it found."""

    recipe: BuildRecipe
    inputs: list[Input]
    pieces: list[list[Part]]

    @property
    def folder(self) -> Path:
        """The working directory."""
        return self.recipe.output_dir / FOLDER

    def bytes_of(self, piece: int) -> int:
        """Input that a piece covers."""
        return sum(part.bytes for part in self.pieces[piece])

    @property
    def bytes(self) -> int:
        """Input of the whole build."""
        return sum(self.bytes_of(piece) for piece in range(len(self.pieces)))

    def settings(self) -> dict[str, Any]:
        """What decides the shards: the recipe, the vocabulary in its file if it names one, and
        which files with which sizes and times."""
        inputs = {
            entry.path: f"{entry.bytes} bytes, {entry.encoding}, modified {entry.modified_ns}"
            for entry in self.inputs
        }
        content = {**self.recipe.content(), "inputs": inputs}
        names = [*self.recipe.clean.rules, *(entry.format for entry in self.inputs)]
        content["functions"] = {name: function_digest(name) for name in names if ":" in name}
        if self.recipe.vocab.file is not None:
            tokens = vocab.read(self.recipe.vocab.file)
            content["vocab"]["sha256"] = vocab.sha256(tokens)
        return content

    def begun_with(self) -> dict[str, Any]:
        """The settings, and the versions that must not change in the middle of a build."""
        return {**self.settings(), "versions": versions()}

    def file(self, step: str, number: int, suffix: str) -> Path:
        """Where a step keeps what it made of piece or partition `number`."""
        return self.folder / step / f"{number:05d}{suffix}"

    def write(self) -> None:
        """Write it into the working directory."""
        write_json(
            self.folder / FILE,
            {
                "directory": str(Path.cwd()),
                "recipe": self.recipe.model_dump(mode="json"),
                "settings": self.begun_with(),
                "inputs": [dataclasses.asdict(entry) for entry in self.inputs],
                "pieces": [[dataclasses.asdict(p) for p in parts] for parts in self.pieces],
            },
        )


def make(recipe: BuildRecipe) -> Plan:
    """Look for the inputs and cut them into pieces."""
    inputs = find_inputs(recipe.sources)
    return Plan(recipe, inputs, make_pieces(inputs, recipe.sources, int(recipe.piece_mb * 1e6)))


def versions() -> dict[str, str]:
    """Of the libraries that may decide what is in the shards."""
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in DECIDE},
    }


def stored_settings(folder: Path) -> dict[str, Any] | None:
    """`begun_with` of the build that was begun in a working directory, if there is one."""
    return _read(folder / FILE)["settings"] if (folder / FILE).exists() else None


def load(folder: Path) -> Plan:
    """The plan in a working directory, its paths absolute: a worker may run anywhere."""
    return _load(folder, stamp(folder / FILE))


def stamp(path: Path) -> int:
    """Changes when a file is written anew; long-lived workers must not go by an old one."""
    return path.stat().st_mtime_ns


@lru_cache(maxsize=2)
def _load(folder: Path, _: int) -> Plan:
    values = _read(folder / FILE)
    recipe = check(BuildRecipe, values["recipe"], str(folder / FILE))
    begun_in = Path(values["directory"])
    inputs = [
        Input(**{**entry, "path": str(begun_in / entry["path"])})
        if entry["format"] != "packaged"
        else Input(**entry)
        for entry in values["inputs"]
    ]
    pieces = [[Part(**part) for part in parts] for parts in values["pieces"]]
    return Plan(recipe.model_copy(update={"output_dir": folder.parent}), inputs, pieces)


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: the plan of a build is unreadable ({error}); remove {path.parent}"
        ) from None
