"""The plan of a build, kept in its working directory: what is read, in which pieces.

    OUTPUT/.build/plan.json           recipe, settings, number of pieces
    OUTPUT/.build/inputs.jsonl.zst    the inputs, one a line
    OUTPUT/.build/ID/plan/00000.json  what piece 0 is made of: all that a worker reads of the inputs
    OUTPUT/.build/ID/STEP/            what the tasks of a step made

ID is random: a task of a build that failed and was removed cannot write into the next one. The
working directory is removed when the build is finished.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import platform
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import zstandard

import data_pipeline
from data_pipeline.base.errors import UserError
from data_pipeline.base.files import write_atomically, write_json
from data_pipeline.base.functions import function_digest
from data_pipeline.base.recipes import check
from data_pipeline.recipe import BuildRecipe
from data_pipeline.sources.inputs import find_inputs, make_pieces
from data_pipeline.sources.parts import Input, Part
from data_pipeline.text import vocab

FOLDER = ".build"
FILE = "plan.json"
INPUTS = "inputs.jsonl.zst"
LIBRARIES = ("jieba", "rjieba", "rensa", "tokenizers", "xxhash", "h5py", "numpy")


@dataclass(frozen=True)
class Plan:
    """What a worker knows of a build."""

    recipe: BuildRecipe
    id: str
    pieces: int
    bytes: int
    """Input of the whole build."""

    @property
    def folder(self) -> Path:
        """The working directory."""
        return self.recipe.output_dir / FOLDER

    @property
    def vocab_file(self) -> Path:
        """The vocabulary that the text is encoded with."""
        return self.folder / self.id / "vocab.txt"

    def file(self, step: str, number: int, suffix: str) -> Path:
        """Where a step writes what it makes of piece or partition `number`."""
        return self.folder / self.id / step / f"{number:05d}{suffix}"

    def parts_of(self, piece: int) -> list[tuple[Input, Part]]:
        """What a piece is made of, in order."""
        values = _read_json(self.file("plan", piece, ".json"))
        return [(Input(**entry), Part(**part)) for entry, part in values]


@dataclass(frozen=True)
class InputPlan:
    """What the build itself knows besides: the inputs and how they are cut."""

    recipe: BuildRecipe
    inputs: list[Input]
    pieces: list[list[Part]]

    @cached_property
    def piece_bytes(self) -> list[int]:
        """Input that each piece covers."""
        return [sum(part.bytes for part in parts) for parts in self.pieces]

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What decides the shards: the recipe, the vocabulary in its file if it names one, the
        user's own functions, and which files with which sizes and times (as a digest)."""
        lines = input_lines(self.inputs)
        digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        size = sum(entry.bytes for entry in self.inputs)
        content = self.recipe.content()
        content["inputs"] = {"count": len(lines), "bytes": size, "sha256": digest}
        names = [*self.recipe.clean.rules, *(entry.format for entry in self.inputs)]
        content["functions"] = {name: function_digest(name) for name in names if ":" in name}
        if self.recipe.vocab.file is not None:
            tokens = vocab.read(self.recipe.vocab.file)
            content["vocab"]["sha256"] = vocab.sha256(tokens)
        return json.loads(json.dumps(content))  # tuples become lists, as in what was stored

    def write(self, build_id: str) -> Plan:
        """Write the plan into the working directory, if it is not there yet."""
        plan = Plan(self.recipe, build_id, len(self.pieces), sum(self.piece_bytes))
        if (plan.folder / FILE).exists():
            return plan
        for piece, parts in enumerate(self.pieces):
            entries = [self._absolute(self.inputs[part.input]) for part in parts]
            write_json(
                plan.file("plan", piece, ".json"),
                [
                    [dataclasses.asdict(entry), dataclasses.asdict(part)]
                    for entry, part in zip(entries, parts, strict=True)
                ],
            )
        write_inputs(plan.folder / INPUTS, self.inputs)
        values = {
            "id": build_id,
            "recipe": self.recipe.model_dump(mode="json"),
            "settings": self.settings,
            "versions": versions(),
            "pieces": plan.pieces,
            "bytes": plan.bytes,
        }
        write_json(plan.folder / FILE, values)
        return plan

    @staticmethod
    def _absolute(entry: Input) -> Input:
        """A worker may run in any directory."""
        if entry.format == "packaged":
            return entry
        return dataclasses.replace(entry, path=str(Path(entry.path).absolute()))


def plan_inputs(recipe: BuildRecipe) -> InputPlan:
    """Find the inputs and cut them into pieces."""
    inputs = find_inputs(recipe.sources, recipe.output_dir)
    pieces = make_pieces(inputs, recipe.sources, int(recipe.piece_mb * 1e6))
    return InputPlan(recipe, inputs, pieces)


def new_id() -> str:
    """A name that no other build has."""
    return secrets.token_hex(6)


def input_lines(inputs: Iterable[Input]) -> list[str]:
    """One line an input: path, size, encoding, time of the last change."""
    return [
        json.dumps([e.path, e.bytes, e.encoding, e.modified_ns], ensure_ascii=False) for e in inputs
    ]


def write_inputs(path: Path, inputs: Iterable[Input]) -> None:
    """Write the list of inputs, compressed."""
    text = "\n".join(input_lines(inputs)).encode("utf-8", "surrogateescape")
    write_atomically(path, zstandard.compress(text, 3))


def read_inputs(path: Path) -> dict[str, list]:
    """{path: [bytes, encoding, time]} of a list of inputs; empty when there is none."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}
    text = zstandard.ZstdDecompressor().decompress(data).decode("utf-8", "surrogateescape")
    rows = [json.loads(line) for line in text.split("\n") if line]
    return {row[0]: row[1:] for row in rows}


def versions() -> dict[str, str]:
    """Of Python, the libraries and the code that may decide what is in the shards."""
    return {
        "python": platform.python_version(),
        "data_pipeline": code_digest(),
        **{name: importlib.metadata.version(name) for name in LIBRARIES},
    }


@lru_cache(maxsize=1)
def code_digest() -> str:
    """First digits of a digest of this package's source files."""
    folder = Path(data_pipeline.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def stored_plan(folder: Path) -> dict[str, Any] | None:
    """What plan.json of a working directory holds, if there is one."""
    return _read_json(folder / FILE) if (folder / FILE).exists() else None


def load_plan(folder: Path) -> Plan:
    """The plan in a working directory, its paths absolute: a worker may run anywhere."""
    return _load(folder, modification_time(folder / FILE))


def modification_time(path: Path) -> int:
    """Changes when a file is written again; a long-lived worker must not use an old one."""
    return path.stat().st_mtime_ns


@lru_cache(maxsize=2)
def _load(folder: Path, _: int) -> Plan:
    values = _read_json(folder / FILE)
    recipe = check(BuildRecipe, values["recipe"], str(folder / FILE))
    recipe = recipe.model_copy(update={"output_dir": folder.parent})
    return Plan(recipe, values["id"], values["pieces"], values["bytes"])


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(
            f"{path}: the plan of a build is unreadable ({error}); remove {path.parent}"
        ) from None
