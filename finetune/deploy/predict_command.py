"""`python -m finetune predict`: texts in, one line of output for each line of input."""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from data_pipeline.base.errors import UserError
from data_pipeline.base.files import write_atomically
from finetune.tasks.files import is_text


@dataclass(frozen=True)
class Row:
    """One text (or pair) of the input; an empty text gets no prediction."""

    text: str
    pair: str | None = None
    line: str = ""
    """As it stands in the input."""
    record: dict = field(default_factory=dict)
    """Its other columns, for a table."""
    where: str = ""
    """File and line, for a table."""


def predict_texts(arguments) -> int:
    """Classify, or find entities in, the arguments' texts, a table, or lines of a file or stdin."""
    from finetune.deploy.predict import Predictor

    rows, output = read_rows(arguments), output_of(arguments)
    chosen = [row for row in rows if row.text.strip()]
    if not chosen:
        raise UserError("no text: give texts as arguments, a file with --input, or lines on stdin")
    predictions = iter(
        Predictor(arguments.model, arguments.threads).predict(
            [row.text for row in chosen], [row.pair for row in chosen]
        )
    )
    answered = [(row, next(predictions) if row.text.strip() else None) for row in rows]
    if output:
        write_predictions(output, answered)
    elif arguments.json:
        values = [
            {"text": row.line} | (asdict(prediction) if prediction else {})
            for row, prediction in answered
        ]
        print(json.dumps({"predictions": values}, ensure_ascii=False))
    else:
        for row, prediction in answered:
            print(f"{prediction}\t{row.line}" if prediction else "")
    return 0


def read_rows(arguments) -> list[Row]:
    """The texts of a command line; a tab in a line separates a pair."""
    if arguments.texts:
        for number, text in enumerate(arguments.texts, 1):
            if not is_text(text):
                raise UserError(f"text {number} of the command line is not UTF-8: {text!a:.60}")
        return [_row_of(line) for line in arguments.texts]
    if arguments.text:
        if not arguments.input:
            raise UserError("--text names a column of --input, which is missing")
        return list(_table(Path(arguments.input), arguments.text, arguments.pair))
    return [_row_of(line) for line in _lines(arguments.input)]


def output_of(arguments) -> Path | None:
    """The file that a command writes; UserError, before the work is done, when it cannot."""
    if not arguments.output:
        return None
    path = Path(arguments.output)
    if path.is_dir():
        raise UserError(f"--output {path} is a directory; name a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise UserError(f"--output {path}: cannot write: {error}") from None
    return path


def write_predictions(path: Path, answered: list) -> None:
    """One JSON object a line: the columns of the input, and the prediction."""
    lines = []
    for row, prediction in answered:
        value = (row.record or {"text": row.line}) | (asdict(prediction) if prediction else {})
        lines.append(json.dumps(value, ensure_ascii=False) + "\n")
    write_atomically(path, "".join(lines))
    print(f"{len(lines)} predictions written to {path}", file=sys.stderr)


def _row_of(line: str) -> Row:
    text, tab, pair = line.partition("\t")
    return Row(text, pair if tab else None, line)


def _table(path: Path, text: str, pair: str | None) -> Iterator[Row]:
    from finetune.tasks.files import records

    for number, record in records(path):
        where = f"{path}, line {number}"
        for column in (text, pair):
            if column is not None and record.get(column) is None:
                raise UserError(
                    f"{where}: no column {column!r}; "
                    f"it has {', '.join(str(key) for key in record)[:200]}"
                )
        first = str(record[text])
        yield Row(first, str(record[pair]) if pair else None, first, record, where)


def _lines(path: str | None) -> list[str]:
    """Lines end with a line feed alone (or with CR LF): text may hold other separators."""
    try:
        content = Path(path).read_bytes() if path else sys.stdin.buffer.read()
        text = content.decode("utf-8-sig")
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{path or 'stdin'}: cannot read: {reason}") from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path or 'stdin'}: must be UTF-8, and is not at byte {error.start}; "
            "convert it, for example with iconv -f GB18030 -t UTF-8"
        ) from None
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
