"""Entities in the files of CLUENER2020, of MSRA, and of a user in BIO columns.

CLUENER2020 (https://github.com/CLUEbenchmark/CLUENER2020): a JSON object a line, with the ends of
entities included. MSRA, and most files that are passed on as CoNLL or BIO: a character and its
label a line, a blank line after each sentence.
"""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from data_pipeline.base.errors import UserError
from finetune.tasks import bio
from finetune.tasks.base import Example, Span, Task
from finetune.tasks.files import lines_of, records, training_file
from finetune.tasks.options import TaskOptions

CLUENER_TYPES = (
    *("address", "book", "company", "game", "government"),
    *("movie", "name", "organization", "position", "scene"),
)
MSRA_TYPES = ("LOC", "ORG", "PER")
MSRA_FILES = {  # the names in circulation
    "train": ("msra_train_bio.txt", "msra_train_bio", "train.txt"),
    "test": ("msra_test_bio.txt", "msra_test_bio", "test.txt"),
}
MSRA_DEV_EVERY = 20  # MSRA has no dev split: every twentieth training sentence is in it


def cluener(settings: TaskOptions) -> Task:
    """CLUENER2020 from the unpacked folder; its official test.json has no labels."""
    directory = _folder(settings, "cluener", "https://github.com/CLUEbenchmark/CLUENER2020")

    def read(split: str) -> list[Example] | None:
        path = directory / f"{split}.json"
        if not path.is_file():
            if split == "test":
                return None
            raise UserError(f"{path}: missing; CLUENER2020 has train.json, dev.json and test.json")
        examples = [
            cluener_example(record, f"{path}, line {number}") for number, record in records(path)
        ]
        return examples if all(example.spans is not None for example in examples) else None

    return Task("cluener", bio.labels_of(CLUENER_TYPES), read, kind="tokens")


def cluener_example(record: dict, where: str) -> Example:
    """{"text": ..., "label": {type: {mention: [[start, end included], ...]}}} as an example."""
    text, label = record.get("text"), record.get("label")
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"{where}: no field 'text', or it is empty")
    if label is None:
        return Example(text)
    try:
        spans = [
            (Span(start, end + 1, kind), mention)
            for kind, mentions in label.items()
            for mention, places in mentions.items()
            for start, end in places
        ]
    except (AttributeError, TypeError, ValueError):
        raise UserError(f"{where}: label is not {{type: {{mention: [[start, end]]}}}}") from None
    for span, mention in spans:
        if span.label not in CLUENER_TYPES:
            raise UserError(f"{where}: type {span.label!r} is not one of CLUENER2020's")
        if text[span.start : span.end] != mention:
            raise UserError(f"{where}: {mention!r} is not at character {span.start}")
    return Example(text, spans=without_overlap([span for span, _ in spans]))


def without_overlap(spans: list[Span]) -> tuple[Span, ...]:
    """Spans in order; of those that overlap the first and longest stays: BIO holds no more."""
    chosen: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.end, span.label)):
        if not chosen or span.start >= chosen[-1].end:
            chosen.append(span)
    return tuple(chosen)


def msra(settings: TaskOptions) -> Task:
    """MSRA's entities (SIGHAN 2006): PER, LOC, ORG; dev is every twentieth training sentence."""
    directory = _folder(settings, "msra", "the SIGHAN 2006 bakeoff, in BIO columns")

    def path_of(split: str) -> Path:
        names = MSRA_FILES[split]
        path = next((directory / n for n in names if (directory / n).is_file()), None)
        if path is None:
            raise UserError(f"{directory}: no {split} data; looked for {', '.join(names)}")
        return path

    def read(split: str) -> list[Example]:
        if split == "test":
            return list(bio_sentences(path_of("test"), MSRA_TYPES))
        examples = enumerate(bio_sentences(path_of("train"), MSRA_TYPES), 1)
        return [e for n, e in examples if (n % MSRA_DEV_EVERY == 0) == (split == "dev")]

    return Task("msra", bio.labels_of(MSRA_TYPES), read, kind="tokens")


def bio_file(settings: TaskOptions) -> Task:
    """A user's own entities from `settings.train/dev/test`; the types are those of train."""
    train = training_file(settings)
    sentences = bio_sentences(train, None)
    types = sorted({span.label for example in sentences for span in example.spans or ()})
    if not types:
        raise UserError(f"{train}: no entity in it; every label is O")

    def read(split: str) -> list[Example] | None:
        path = getattr(settings, split)
        return None if path is None else list(bio_sentences(path, types))

    return Task(train.stem, bio.labels_of(types), read, kind="tokens")


def bio_sentences(path: Path, types: tuple[str, ...] | list[str] | None) -> Iterator[Example]:
    """Examples of a file of columns: token first, label last, a blank line between sentences.

    UserError for a line without a label, or one whose type is not in `types` (None: any type).
    """
    rows: list[tuple[str, str]] = []
    for number, line in chain(lines_of(path), [(0, "")]):
        columns = line.split()
        if not columns:
            if rows:
                yield example_of(rows)
                rows = []
            continue
        where = f"{path}, line {number}"
        if len(columns) < 2:
            raise UserError(f"{where}: {line!r:.60} has no label; expected a token and a label")
        label = bio.check(columns[-1], where)
        if types is not None and label != bio.OUTSIDE and label[2:] not in types:
            raise UserError(f"{where}: type {label[2:]!r} is not one of {', '.join(types)[:200]}")
        rows.append((columns[0], label))


def example_of(rows: list[tuple[str, str]]) -> Example:
    """(token, label) of a sentence as text and spans; a blank goes between two Latin words only."""
    text, places = "", []
    for token, _ in rows:
        if text and _is_latin(text[-1]) and _is_latin(token[0]):
            text += " "
        places.append((len(text), len(text) + len(token)))
        text += token
    spans = tuple(
        Span(places[first][0], places[end - 1][1], kind)
        for first, end, kind in bio.decode(label for _, label in rows)
    )
    return Example(text, spans=spans)


def _is_latin(character: str) -> bool:
    return character.isascii() and character.isalnum()


def _folder(settings: TaskOptions, name: str, source: str) -> Path:
    if settings.directory is None or not settings.directory.is_dir():
        given = settings.directory or "task.directory is not set"
        raise UserError(
            f"task {name}: the folder is missing ({given}).\n"
            f"  Get its files from {source} and set task.directory to their folder."
        )
    return settings.directory
