"""A user's labelled file: .tsv, .csv (with a header) or .jsonl, columns by name."""

import contextlib
import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_pipeline.base.errors import UserError
from finetune.tasks.base import Example, Task
from finetune.tasks.options import TaskOptions

DELIMITERS = (".tsv", ".csv")
csv.field_size_limit(16 << 20)  # the module's default of 128 kB is less than one long article


def labelled_file(settings: TaskOptions) -> Task:
    """A task from `settings.train/dev/test`; labels are those of train, in sorted order."""
    train = training_file(settings)
    labels = sorted({one_label(row.label) for row in rows(train, settings)})
    if len(labels) < 2:
        raise UserError(f"{train}: one label only ({labels}); nothing to tell apart")

    def read(split: str) -> list[Example] | None:
        path = getattr(settings, split)
        return None if path is None else examples(path, settings, labels)

    return Task(train.stem, labels, read)


def training_file(settings: TaskOptions) -> Path:
    """`settings.train`; UserError unless there are files to train on and to choose by."""
    if settings.train is None:
        raise UserError(
            f"task.train: missing; a task of name {settings.name!r} reads its training data there"
        )
    if settings.dev is None and settings.test is None:
        raise UserError("task.dev: missing; the best checkpoint is chosen on it")
    return settings.train


def one_label(value: Any) -> str:
    """A field that names one label."""
    return str(value).strip()


def examples(path: Path, settings: TaskOptions, labels: list[str]) -> list[Example]:
    """Examples of one file; UserError names the line of a label that train does not have."""
    index = {label: number for number, label in enumerate(labels)}
    return [
        Example(row.text, row.pair, index_of(one_label(row.label), index, row.where))
        for row in rows(path, settings)
    ]


def index_of(label: str, index: dict[str, int], where: str) -> int:
    """The number of a label; UserError when training data does not have it."""
    if label not in index:
        raise UserError(
            f"{where}: label {label!r} is not among the training data's: {', '.join(index)[:200]}"
        )
    return index[label]


@dataclass(frozen=True)
class LabelledRow:
    """One row of a labelled file."""

    text: str
    pair: str | None
    label: Any
    """As it stands in the file: a string, or what JSON has there."""
    where: str
    """File and line, for messages."""


def rows(path: Path, settings: TaskOptions) -> Iterator[LabelledRow]:
    """Every row of a file; UserError for a missing column or an empty text."""
    columns = [settings.text, settings.label] + ([settings.pair] if settings.pair else [])
    for number, record in records(path):
        where = f"{path}, line {number}"
        for column in columns:
            if column not in record or record[column] is None:
                raise UserError(
                    f"{where}: no column {column!r}; "
                    f"it has {', '.join(str(key) for key in record)[:200]}"
                )
        text = str(record[settings.text]).strip()
        if not text:
            raise UserError(f"{where}: the text ({settings.text!r}) is empty")
        pair = str(record[settings.pair]).strip() if settings.pair else None
        yield LabelledRow(text, pair, record[settings.label], where)


def records(path: Path) -> Iterator[tuple[int, dict]]:
    """(number of the line, from 1, fields by name) of each row of a .tsv, .csv or .jsonl; the last
    line of a row with line ends in it. UserError names a line that is none."""
    path = Path(path)
    if path.suffix not in (*DELIMITERS, ".jsonl", ".json"):
        raise UserError(f"{path}: data is a .tsv, .csv or .jsonl file")
    with _opened(path) as file:
        if path.suffix not in DELIMITERS:
            yield from json_lines(file, path)
        elif path.suffix == ".csv":
            cure = "is there a comma in the text? Put such a text in quotation marks"
            yield from separated(csv.DictReader(file), path, cure)
        else:  # no quoting: a lone quotation mark is just a character
            reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            yield from separated(reader, path, "is there a tab in the text?")


def separated(reader: csv.DictReader, path: Path, cure: str) -> Iterator[tuple[int, dict]]:
    """Rows of a table; UserError names the line that has more fields than the header, as a
    separator in a text makes them."""
    for record in reader:
        if any(more := record.pop(None, [])):
            raise UserError(
                f"{path}, line {reader.line_num}: {len(more)} more field(s) than the header has "
                f"names; {cure}"
            )
        yield reader.line_num, record


def is_text(value: str) -> bool:
    """Whether a string can be written as UTF-8; halves of surrogate pairs cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, line without its end) of a UTF-8 file."""
    with _opened(Path(path)) as file:
        for number, line in enumerate(file, 1):
            yield number, line.rstrip("\r\n")


@contextlib.contextmanager
def _opened(path: Path):
    """The file, open as text; what goes wrong while it is read becomes a UserError."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield file
    except OSError as error:
        raise UserError(f"{path}: cannot read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8: {error.reason} at byte {error.start}") from None


def json_lines(file, path: Path) -> Iterator[tuple[int, dict]]:
    """One JSON object a line; UserError names the line that is none."""
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:  # or numbers of 5,000 digits, or [[[[...
            reason = getattr(error, "msg", error)
            raise UserError(f"{path}, line {number}: not JSON: {reason}") from None
        if not isinstance(record, dict):
            raise UserError(f"{path}, line {number}: expected a JSON object, got {line:.40}")
        if "\\u" in line and not is_text(json.dumps(record, ensure_ascii=False)):
            raise UserError(
                f"{path}, line {number}: half of a surrogate pair (\\ud800 to \\udfff) is no text"
            )
        yield number, record
