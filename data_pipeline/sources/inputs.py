"""The inputs of a build: found, put together into pieces, read as documents.

A piece becomes one shard. It is made of parts: byte ranges of plain files, row groups of parquet
files, whole compressed files, ranges of a packaged corpus. Planning looks at names, sizes and the
first bytes of files; reading streams, so that memory does not grow with the input.
"""

import dataclasses
import glob
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeVar

from data_pipeline.base.errors import UserError
from data_pipeline.sources import packaged, streams
from data_pipeline.sources.encodings import checked_encoding, encoding_of
from data_pipeline.sources.formats import FORMATS, SUFFIXES, format_named, format_of
from data_pipeline.sources.parts import Input, Part, whole_file_part
from data_pipeline.sources.remote import MAGIC, find_remote, is_remote, local_copy, remote_head
from data_pipeline.sources.settings import Source

FILES_AT_ONCE, BATCH = 32, 64
PIECE_PARTS = 1 << 14
"""At most, so that a million tiny files are many tasks, and no worker holds the list of all."""
SHOWN_SUFFIXES = 5
T = TypeVar("T")
R = TypeVar("R")


class LeftOut(NamedTuple):
    """What a source's folder or glob meets and does not read."""

    path: str
    """The folder or the glob."""
    what: str
    amount: int
    counter: str
    """Of the manifest, that it is counted in."""
    advice: str
    """How to read it after all."""


Report = Callable[[LeftOut], None]


def find_inputs(
    sources: tuple[Source, ...],
    output_dir: Path | None = None,
    report: Report = lambda left_out: None,
) -> list[Input]:
    """All inputs in order, without those in `output_dir`, which may lie in the folder of a source.

    `report` is told of files in a source's folder whose names do not tell a format, and of folders
    that a glob matches.

    UserError for a source without files, or with a folder or file that is unreadable.
    """
    inputs: list[Input] = []
    for number, source in enumerate(sources):
        if source.packaged:
            size = sum(len(text.encode()) for text in packaged.texts(source.packaged))
            inputs.append(Input(number, source.packaged, "packaged", "utf-8", size, size, 0))
            continue
        assert source.path is not None  # a source has one of the two
        if is_remote(source.path):
            found = _remote_files(source.path, source.format, report)
            inputs += _in_threads(partial(_remote_input, number, source), found)
        else:
            files = find_files(source.path, source.format, output_dir, report)
            inputs += _in_threads(partial(_input, number, source), files)
    return inputs


def _in_threads(function: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """The results in order. What takes long is to wait for a disk or a network; a task of the pool
    is a batch, so that a million files do not become a million tasks in memory."""
    batches = (items[i : i + BATCH] for i in range(0, len(items), BATCH))
    with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        for results in pool.map(lambda batch: [function(item) for item in batch], batches):
            yield from results


def find_files(
    pattern: str,
    format_name: str = "auto",
    without: Path | None = None,
    report: Report = lambda left_out: None,
) -> list[str]:
    """The files of a path, a folder or a glob, in the order of the names of folders and files.

    Of a folder those whose name tells the format, or with another `format_name` all but hidden
    ones; of a glob those that match. `report` is told of the others. What lies in the folder
    `without` is left out. `find_remote` has the same rules.
    """
    path = Path(pattern).expanduser()
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except OSError as error:
        raise UserError(f"sources: {pattern}: cannot be read: {error.strerror}") from None
    if is_folder:
        named = _with_format(_walk(path, without), str(path), format_name, report)
        return sorted(named, key=_names)
    if is_file:
        return [str(path)]
    _check_listable(path)
    matches = glob.glob(str(path), recursive=True)  # noqa: PTH207 - Path.glob takes no absolute one
    outside = _outside(without)
    files = sorted((p for p in matches if os.path.isfile(p) and outside(p)), key=_names)  # noqa: PTH113
    if not files:
        reason = "only folders match" if matches else "there is no such file or folder"
        raise UserError(f"sources: {pattern}: {reason}")
    _report_folders(pattern, (p for p in matches if os.path.isdir(p)), files, report)  # noqa: PTH112
    return files


def _remote_files(url: str, format_name: str, report: Report) -> list[tuple[str, int, int]]:
    """(URL, bytes, time) of each file of a URL, by the rules of `find_files`."""
    found = find_remote(url)
    files = {name: (name, size, modified) for name, size, modified in found.files}
    names: Iterable[str] = files
    if found.is_folder:
        names = _with_format(files, url, format_name, report)
    _report_folders(url, found.folders, files, report)
    return [files[name] for name in sorted(names, key=_names)]


def _report_folders(
    pattern: str, folders: Iterable[str], files: Iterable[str], report: Report
) -> None:
    """Tell of the folders that a glob matches, and none of the files in them: their text is not
    read, although a folder that is named without a glob is."""
    left = {folder.rstrip("/") for folder in folders}
    if not left or pattern.endswith("**"):
        return
    for file in files:
        parent = file.rpartition("/")[0]
        while parent in left:
            left.discard(parent)
            parent = parent.rpartition("/")[0]
    if left:
        what = "folders that match the glob, whose files do not"
        advice = "add /** to the glob to read them"
        report(LeftOut(pattern, what, len(left), "folders_left_out", advice))


def _with_format(paths: Iterable[str], folder: str, format_name: str, report: Report) -> list[str]:
    """Those of a folder's files that are read."""
    files: list[str] = []
    others: Counter[str] = Counter()
    for path in paths:
        if format_name != "auto" or format_of(path):
            files.append(path)
        else:
            others[PurePosixPath(path).suffix] += 1
    if not files:
        raise UserError(
            f"sources: the folder {folder} holds no {', '.join(SUFFIXES)} file (or one of these "
            f"with {', '.join(streams.COMPRESSED)}); of other names with `format` set"
        )
    if others:
        names = [
            f"{count:,} {suffix or 'without a suffix'}"
            for suffix, count in sorted(others.items(), key=lambda item: (-item[1], item[0]))
        ]
        shown = ", ".join(names[:SHOWN_SUFFIXES])
        what = f"files left out, whose names tell no format ({shown})"
        advice = "set `format` to read them"
        report(LeftOut(folder, what, others.total(), "files_of_other_names", advice))
    return files


def _check_listable(pattern: Path) -> None:
    """UserError for a folder that a glob looks into and cannot list; glob passes over it."""
    parts = pattern.parts
    for count in range(len(parts) + 1):
        is_listed = count < len(parts) and any(char in parts[count] for char in MAGIC)
        if not is_listed and (count == 0 or parts[count - 1] != "**"):
            continue
        prefix = str(Path(*parts[:count]))
        for folder in glob.glob(f"{prefix.rstrip('/')}/", recursive=True):  # noqa: PTH207
            try:
                os.scandir(folder).close()
            except OSError as error:
                raise _unlistable(folder, error) from None


def _unlistable(folder: str, error: OSError) -> UserError:
    return UserError(f"sources: {folder}: cannot be listed: {error.strerror}")


def _names(path: str) -> str:
    """To sort by: as the list of the names of folders and file, in a third of the memory."""
    return path.replace("/", "\0")


def _walk(folder: Path, without: Path | None) -> Iterator[str]:
    """All files that are not hidden. UserError for a folder that cannot be listed."""

    def unreadable(error: OSError) -> None:
        raise _unlistable(error.filename, error)

    visited, outside = set(), _outside(without)
    for parent, names, files in os.walk(folder, onerror=unreadable, followlinks=True):
        visited.add(Path(parent).resolve())  # a link may point to a folder above it
        names[:] = [
            name
            for name in names
            if name[0] != "."
            and Path(parent, name).resolve() not in visited
            and outside(f"{parent}/{name}/")
        ]
        prefix = f"{parent.rstrip('/')}/".removeprefix("./")
        yield from (prefix + name for name in files if name[0] != ".")


def _outside(folder: Path | None) -> Callable[[str], bool]:
    """Whether a file does not lie in a folder; links to folders are followed, each only once. A
    folder is given with a slash at its end."""
    root = folder.resolve() if folder is not None else None
    resolved = lru_cache(maxsize=1024)(lambda parent: Path(parent).resolve())

    def outside(path: str) -> bool:
        if root is None:
            return True
        parent, _, name = path.rpartition("/")
        return not (resolved(parent or "/") / name).is_relative_to(root)

    return outside


def make_parts(inputs: list[Input], sources: tuple[Source, ...], part_bytes: int) -> Iterator[Part]:
    """The parts of all inputs, in order."""

    def parts(number: int) -> list[Part]:
        entry = inputs[number]
        if is_remote(entry.path):
            return [whole_file_part(number, entry)]
        source = sources[entry.source]
        return list(format_named(entry.format).parts(number, entry, source, part_bytes))

    for its_parts in _in_threads(parts, range(len(inputs))):
        yield from its_parts


def limited(
    parts: Iterable[Part], inputs: list[Input], limits_mb: list[float | None]
) -> Iterator[Part]:
    """The parts without what lies beyond the limit of their source, in MB or None."""
    left = [math.inf if limit is None else int(limit * 1e6) for limit in limits_mb]
    for part in parts:
        source = inputs[part.input].source
        if left[source] <= 0:
            continue
        if part.bytes > left[source]:
            part = dataclasses.replace(part, bytes=int(left[source]), is_limited=True)  # noqa: PLW2901
        left[source] -= part.bytes
        yield part


def make_pieces(parts: Iterable[Part], piece_bytes: int) -> list[list[Part]]:
    """Parts put together into pieces of about `piece_bytes`, in order; tiny files into smaller
    ones."""
    pieces: list[list[Part]] = []
    room = 0
    for part in parts:
        if not pieces or room < part.bytes // 2 or len(pieces[-1]) == PIECE_PARTS:
            pieces.append([])
            room = piece_bytes
        pieces[-1].append(part)
        room -= part.bytes
    return pieces


def read_documents(entry: Input, part: Part, source: Source, counters: Counter) -> Iterator[str]:
    """The documents of a part: see `Format.documents`."""
    with local_copy(entry) as local:
        yield from format_named(entry.format).documents(local, part, source, counters)


def _input(number: int, source: Source, name: str) -> Input:
    path = Path(name)
    try:
        state = path.stat()
        head = streams.head(path)
        text_bytes = streams.decompressed_size(path)
    except PermissionError:
        raise UserError(f"sources: {path}: no permission to read it") from None
    except OSError as error:
        raise UserError(f"sources: {path}: cannot be read: {error.strerror or error}") from None
    size, modified = state.st_size, state.st_mtime_ns
    return _described(number, source, name, head, size, text_bytes, modified)


def _remote_input(number: int, source: Source, file: tuple[str, int, int]) -> Input:
    url, size, modified = file
    try:
        head = remote_head(url)
    except OSError as error:
        raise UserError(f"sources: {url}: cannot be read: {error}") from None
    compressed = PurePosixPath(url).suffix.lower() in streams.COMPRESSED
    text_bytes = size * (streams.USUAL_RATIO if compressed else 1)
    return _described(number, source, url, head, size, text_bytes, modified)


def _described(
    number: int, source: Source, path: str, head: bytes, size: int, text_bytes: int, modified: int
) -> Input:
    name = format_of(path) if source.format == "auto" else source.format
    if name is None:
        raise UserError(
            f"sources: {path}: the name does not tell the format; set `format` to one of "
            f"{', '.join(FORMATS)}"
        )
    if name == "parquet":
        encoding = "utf-8"
    elif source.encoding == "auto":
        encoding = encoding_of(head)
    else:
        encoding = checked_encoding(source.encoding)
    return Input(number, path, name, encoding, size, text_bytes, modified)
