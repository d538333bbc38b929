"""The plan of a build, in its working directory: what is read, in which pieces.

    OUTPUT/.build/plan.json           recipe, settings, versions
    OUTPUT/.build/pieces.json         of each piece its input bytes, and where its line of
                                      parts.jsonl ends; written once large inputs are unpacked
    OUTPUT/.build/inputs.jsonl.zst    the inputs, one a line
    OUTPUT/.build/ID/parts.jsonl      what each piece is made of, one a line; a worker reads its own
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
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import zstandard

import data_pipeline
from data_pipeline.base.errors import UserError
from data_pipeline.base.files import sync, whole_file, write_atomically, write_json
from data_pipeline.base.functions import function_digest
from data_pipeline.base.recipes import check, examine
from data_pipeline.building.hashing import describe_banding
from data_pipeline.recipe import BuildRecipe
from data_pipeline.shards.provenance import INPUTS
from data_pipeline.sources.inputs import LeftOut, find_inputs, limited, make_parts, make_pieces
from data_pipeline.sources.parts import Input, Part
from data_pipeline.sources.remote import is_remote
from data_pipeline.text import language, vocab

FOLDER = ".build"
FILE = "plan.json"
PIECES = "pieces.json"
INPUTS_AT_ONCE = 1 << 12
LARGE = 1.5  # pieces: what is larger and cannot be cut is unpacked
BUILD_VERSION = 4
"""Raise it with every change of what a recipe makes of text, and of the files in the working
directory: an unfinished build of another version is not continued. A test with a recorded
fingerprint fails when the first has changed."""
CODE = "data_pipeline"  # in `versions`: a digest of the source, which tells workers apart
COMPUTED = {"dedup": "near_banding", "vocab": "sha256"}  # in `settings`, not in a recipe
LIBRARIES = ("jieba", "rjieba", "rensa", "tokenizers", "xxhash", "h5py", "numpy")


@dataclass(frozen=True)
class Plan:
    """What a worker knows of a build."""

    recipe: BuildRecipe
    id: str
    piece_bytes: list[int] = field(default_factory=list)
    """Input that each piece covers; empty until large inputs are unpacked."""
    line_ends: list[int] = field(default_factory=list)
    """Where the line of each piece ends in `parts_file`."""

    @property
    def pieces(self) -> int:
        """How many there are."""
        return len(self.piece_bytes)

    @property
    def bytes(self) -> int:
        """Input of the whole build."""
        return sum(self.piece_bytes)

    @property
    def folder(self) -> Path:
        """The working directory."""
        return self.recipe.output_dir / FOLDER

    @cached_property
    def _root(self) -> str:
        """Of the paths that `file` gives, of which every piece needs dozens."""
        return str(self.folder / self.id)

    @property
    def vocab_file(self) -> Path:
        """The vocabulary that the text is encoded with."""
        return self.folder / self.id / "vocab.txt"

    @property
    def parts_file(self) -> Path:
        """What each piece is made of."""
        return self.folder / self.id / "parts.jsonl"

    def file(self, step: str, number: int, suffix: str) -> Path:
        """Where a step writes what it makes of piece or partition `number`."""
        return Path(f"{self._root}/{step}/{number:05d}{suffix}")

    def chunk_file(self, number: int, chunk: int) -> Path:
        """Where chunk `chunk` of the unpacked input `number` is."""
        return self.folder / self.id / "chunks" / f"{number:05d}-{chunk:05d}.zst"

    def parts_of(self, piece: int) -> list[tuple[Input, Part]]:
        """What a piece is made of, in order."""
        begin, end = (self.line_ends[piece - 1] if piece else 0), self.line_ends[piece]
        with self.parts_file.open("rb") as file:
            file.seek(begin)
            return _parts_from(file.read(end - begin), self.parts_file)

    def to_unpack(self, number: int) -> tuple[Input, Part]:
        """The input `number` of those that are unpacked."""
        path = self.file("unpack", number, ".input")
        return _parts_from(path.read_bytes(), path)[0]


@dataclass(frozen=True)
class InputPlan:
    """What the build itself knows besides: the inputs and their parts."""

    recipe: BuildRecipe
    inputs: list[Input]
    parts: list[Part]
    left_out: list[LeftOut] = field(default_factory=list)
    """What the sources' folders and globs meet and is not read."""

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What decides the shards: the recipe, the vocabulary in its file if it names one, the
        user's own functions, and which files with which sizes and times (as a digest)."""
        digest = hashlib.sha256()
        for block in _input_blocks(self.inputs):
            digest.update(block)
        size = sum(entry.bytes for entry in self.inputs)
        content = self.recipe.content()
        content["inputs"] = {
            "count": len(self.inputs),
            "bytes": size,
            "sha256": digest.hexdigest(),
        }
        tasks = find_inputs(self.recipe.decontaminate) if self.recipe.decontaminate else []
        content["task_inputs"] = list(input_lines(tasks))
        names = {*self.recipe.clean.rules, *(entry.format for entry in self.inputs)}
        content["functions"] = {
            name: function_digest(name) for name in sorted(names) if ":" in name
        }
        if self.recipe.clean.quality.min_chinese_confidence is not None:
            content["functions"][language.PACKAGE] = language.version()
        if self.recipe.dedup.near:
            dedup = self.recipe.dedup
            banding = describe_banding(dedup.near_threshold, dedup.near_permutations)
            content["dedup"]["near_banding"] = banding
        if self.recipe.vocab.file is not None:
            tokens = vocab.read(self.recipe.vocab.file)
            content["vocab"]["sha256"] = vocab.sha256(tokens)
        return json.loads(json.dumps(content))  # tuples become lists, as in what was stored

    @cached_property
    def to_unpack(self) -> list[Part]:
        """Large parts that cannot be cut where they lie."""
        limit = LARGE * self.recipe.piece_mb * 1e6
        return [part for part in self.parts if part.unit == "file" and part.bytes > limit]

    def write(self, build_id: str) -> Plan:
        """Write the plan into the working directory; of one that is there only the recipe, whose
        section `run` may have changed."""
        plan = Plan(self.recipe, build_id)
        if not (plan.folder / FILE).exists():
            for number, part in enumerate(self.to_unpack):
                path = plan.file("unpack", number, ".input")
                write_atomically(path, self._line_of([part]), sync_folder=False)
            if self.to_unpack:
                sync(path.parent)
            write_inputs(plan.folder / INPUTS, self.inputs)
        values = {
            "id": build_id,
            "recipe": self.recipe.model_dump(mode="json"),
            "settings": self.settings,
            "versions": versions(),
        }
        write_json(plan.folder / FILE, values)
        return plan

    def write_pieces(self, plan: Plan, unpacked: list[dict[str, Any]]) -> Plan:
        """The plan with its pieces, written if they are not yet. unpacked: results of that step."""
        path = plan.folder / PIECES
        if path.exists():
            return dataclasses.replace(plan, **_read_json(path))
        chunks = {
            part.input: result["chunks"]
            for part, result in zip(self.to_unpack, unpacked, strict=True)
        }
        parts = [new for part in self.parts for new in _chunk_parts(part, chunks)]
        pieces = make_pieces(parts, int(self.recipe.piece_mb * 1e6))
        ends = []
        with whole_file(plan.parts_file) as temporary, temporary.open("wb") as file:
            for its_parts in pieces:
                file.write(self._line_of(its_parts))
                ends.append(file.tell())
        sizes = [sum(part.bytes for part in its_parts) for its_parts in pieces]
        values = {"piece_bytes": sizes, "line_ends": ends}
        write_json(path, values)
        return dataclasses.replace(plan, piece_bytes=sizes, line_ends=ends)

    def _line_of(self, parts: list[Part]) -> bytes:
        entries = [_absolute(self.inputs[part.input]) for part in parts]
        values = [
            [_values_of(entry), _values_of(part)]
            for entry, part in zip(entries, parts, strict=True)
        ]
        return json.dumps(values).encode() + b"\n"


def _chunk_parts(part: Part, chunks: dict[int, list[int]]) -> list[Part]:
    """A part, or the chunks that it was unpacked to."""
    if part.unit != "file" or part.input not in chunks:
        return [part]
    sizes = chunks[part.input]
    return [Part(part.input, "chunk", i, i + 1, size) for i, size in enumerate(sizes)]


def _values_of(one: Input | Part) -> list[Any]:
    """Its fields in their order. A million files have a million of each: names would only repeat,
    and dataclasses.astuple copies every value."""
    return [getattr(one, name) for name in one.__slots__]


def _absolute(entry: Input) -> Input:
    """A worker may run in any directory."""
    if entry.path.startswith("/"):
        return entry
    if entry.format == "packaged" or is_remote(entry.path):
        return entry
    return dataclasses.replace(entry, path=str(Path(entry.path).absolute()))


def plan_inputs(recipe: BuildRecipe) -> InputPlan:
    """Find the inputs and cut them into parts."""
    left_out: list[LeftOut] = []
    inputs = find_inputs(recipe.sources, recipe.output_dir, left_out.append)
    parts = make_parts(inputs, recipe.sources, int(recipe.piece_mb * 1e6))
    limits = [source.limit_mb for source in recipe.sources]
    return InputPlan(recipe, inputs, list(limited(parts, inputs, limits)), left_out)


def new_id() -> str:
    """A name that no other build has."""
    return secrets.token_hex(6)


def input_lines(inputs: Iterable[Input]) -> Iterator[str]:
    """One line an input: path, size, encoding, time of the last change. Of a million inputs they
    are never all in memory."""
    for e in inputs:
        yield json.dumps([e.path, e.bytes, e.encoding, e.modified_ns], ensure_ascii=False)


def _input_blocks(inputs: Iterable[Input]) -> Iterator[bytes]:
    """The lines with line ends between them, some thousands at a time."""
    lines, end = input_lines(inputs), ""
    while some := list(islice(lines, INPUTS_AT_ONCE)):
        yield (end + "\n".join(some)).encode("utf-8", "surrogateescape")
        end = "\n"


def write_inputs(path: Path, inputs: Iterable[Input]) -> None:
    """Write the list of inputs, compressed."""
    with (
        whole_file(path) as temporary,
        temporary.open("wb") as file,
        zstandard.ZstdCompressor(3).stream_writer(file, closefd=False) as out,
    ):
        for block in _input_blocks(inputs):
            out.write(block)


def with_defaults(settings: dict[str, Any]) -> dict[str, Any]:
    """Stored settings with the fields that recipes have got since: a new field's default is what
    was done before."""
    recipe = {name: settings[name] for name in BuildRecipe.model_fields if name in settings}
    computed = {}
    for section, name in COMPUTED.items():
        values = dict(recipe.get(section, {}))
        computed[section] = {name: values.pop(name)} if name in values else {}
        recipe[section] = values
    filled, problems = examine(BuildRecipe, {**recipe, "output_dir": "."})
    if filled is None or problems:  # a field that no longer exists
        return settings
    content = json.loads(json.dumps(filled.content()))
    sections = {section: {**content[section], **more} for section, more in computed.items()}
    return {**settings, **content, **sections}


def deciding(of_process: dict[str, str]) -> dict[str, str]:
    """Those of `versions` that decide whether a build can be continued: not the source itself, of
    which any comment is a part, but BUILD_VERSION."""
    return {name: version for name, version in of_process.items() if name != CODE}


def versions() -> dict[str, str]:
    """Of Python, the libraries and the code that may decide what is in the shards."""
    return {
        "python": platform.python_version(),
        "build": str(BUILD_VERSION),
        CODE: code_digest(),
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
    """The plan in a working directory, its output directory absolute."""
    pieces = folder / PIECES
    return _load(
        folder.absolute(),
        modification_time(folder / FILE),
        modification_time(pieces) if pieces.exists() else None,
    )


def modification_time(path: Path) -> int:
    """Changes when a file is written again; a long-lived worker must not use an old one."""
    return path.stat().st_mtime_ns


@lru_cache(maxsize=2)
def _load(folder: Path, _: int, pieces_time: int | None) -> Plan:
    values = _read_json(folder / FILE)
    recipe = check(BuildRecipe, values["recipe"], str(folder / FILE))
    recipe = recipe.model_copy(update={"output_dir": folder.parent})
    pieces = {} if pieces_time is None else _read_json(folder / PIECES)
    return Plan(recipe, values["id"], **pieces)


def _parts_from(line: bytes, path: Path) -> list[tuple[Input, Part]]:
    return [(Input(*entry), Part(*part)) for entry, part in _parsed(line, path)]


def _read_json(path: Path) -> Any:
    return _parsed(path.read_bytes(), path)


def _parsed(text: bytes, path: Path) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(
            f"{path}: the plan of a build is unreadable ({error}); remove {path.parent}"
        ) from None
