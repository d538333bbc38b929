"""The seven CLUE classification tasks in their official files.

Formats: https://github.com/CLUEbenchmark/CLUE . Marking the spans of CLUEWSC2020 and joining the
keywords of CSL follow CLUE's own baselines, so that results can be compared.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from data_pipeline.base.errors import UserError
from finetune.tasks.base import Example, Task
from finetune.tasks.files import records
from finetune.tasks.options import TaskOptions

HOME = "https://github.com/CLUEbenchmark/CLUE"


@dataclass(frozen=True)
class Format:
    """How one task's records turn into text; `labels` None: they are read from its files.

    `max_length` and `epochs` are those of the published search (PaddleNLP,
    examples/model_compression/pp-minilm/finetuning). `submissions`: official test file to the name
    of the file of predictions that cluebenchmarks.com takes (CLUE's submit_examples/README.md).
    """

    texts: Callable[[dict], tuple[str, str | None]]
    labels: list[str] | None
    max_length: int
    epochs: int
    submissions: dict[str, str]
    label_key: str = "label"


def _pair(first: str, second: str) -> Callable[[dict], tuple[str, str | None]]:
    return lambda record: (record[first], record[second])


def _single(key: str) -> Callable[[dict], tuple[str, str | None]]:
    return lambda record: (record[key], None)


def mark_spans(record: dict) -> tuple[str, None]:
    """CLUEWSC2020: `_` around the noun (span1) and `[` `]` around the pronoun (span2).

    One may lie in the other ("他的手机" and "他"); the marks of the inner one are then inside.
    """
    target, text = record["target"], record["text"]
    spans = [
        (target["span1_index"], target["span1_text"], "_", "_"),
        (target["span2_index"], target["span2_text"], "[", "]"),
    ]
    marks = []  # (place, opening after closing, outer marks outside, mark)
    for start, span, left, right in spans:
        end = start + len(span)
        if text[start:end] != span:
            raise UserError(f"{span!r} is not at character {start} of {text!r:.80}")
        marks += [(start, 1, -len(span), left), (end, 0, len(span), right)]
    for place, _, _, mark in sorted(marks, reverse=True):  # the later first: places stay right
        text = text[:place] + mark + text[place:]
    return text, None


def join_keywords(record: dict) -> tuple[str, str]:
    """CSL: do the keywords (joined by blanks) belong to the abstract?"""
    return " ".join(record["keyword"]), record["abst"]


def _submission(name: str) -> dict[str, str]:
    return {"test.json": f"{name}_predict.json"}


def _submissions_of_both(name: str) -> dict[str, str]:
    """Of a task whose test set is another in CLUE 1.1 (test.json) than in 1.0."""
    return {
        "test.json": f"{name}11_predict.json",
        "test1.0.json": f"{name}10_predict.json",
    }


SENTENCES = _pair("sentence1", "sentence2")
NLI = ["contradiction", "entailment", "neutral"]
FORMATS = {
    "afqmc": Format(SENTENCES, ["0", "1"], 128, 3, _submission("afqmc")),
    "tnews": Format(_single("sentence"), None, 128, 3, _submissions_of_both("tnews")),
    "iflytek": Format(_single("sentence"), None, 128, 6, _submission("iflytek")),
    "cmnli": Format(SENTENCES, NLI, 128, 3, _submission("cmnli")),
    "ocnli": Format(SENTENCES, NLI, 128, 6, _submission("ocnli_50k")),
    "cluewsc2020": Format(mark_spans, ["false", "true"], 128, 50, _submissions_of_both("cluewsc")),
    "csl": Format(join_keywords, ["0", "1"], 256, 8, _submission("csl")),
}
TRAIN_FILES = ("train.json", "train.50k.json")  # OCNLI names its training sets by their size


def open_clue(settings: TaskOptions) -> Task:
    """The task `settings.name` from its unpacked official folder, `settings.directory`."""
    name, directory, form = settings.name, settings.directory, FORMATS[settings.name]
    if directory is None or not Path(directory).is_dir():
        raise UserError(_missing(name, directory, "the folder"))
    labels = form.labels or _labels_of(directory, name, form)
    index = {label: number for number, label in enumerate(labels)}

    def read(split: str) -> list[Example] | None:
        path = _split_file(directory, split)
        if path is None:
            if split == "test":
                return None
            raise UserError(_missing(name, directory, f"{split}.json"))
        examples = [
            _example(record, form, index, f"{path}, line {number}")
            for number, record in records(path)
            if record.get(form.label_key) != "-"  # OCNLI: the annotators did not agree
        ]
        return examples if all(example.label is not None for example in examples) else None

    return Task(name, labels, read, form.max_length)


def submission_examples(path: Path, name: str) -> tuple[list, list[Example]]:
    """(ids, examples) of an official test file, in its order; the id of a record that has none is
    its number from 0."""
    lines = list(records(path))
    ids = [record.get("id", record.get("idx", n)) for n, (_, record) in enumerate(lines)]
    examples = [
        _example(record | {"label": None}, FORMATS[name], {}, f"{path}, line {number}")
        for number, record in lines
    ]
    return ids, examples


def _example(record: dict, form: Format, index: dict[str, int], where: str) -> Example:
    try:
        text, pair = form.texts(record)
    except KeyError as error:
        raise UserError(
            f"{where}: no field {error.args[0]!r}; it has {', '.join(record)[:200]}"
        ) from None
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    except TypeError as error:
        raise UserError(f"{where}: a field is not of the task's type: {error}") from None
    if not all(isinstance(value, str) for value in (text, pair or "")):
        raise UserError(f"{where}: a text is not a string")
    if not text.strip():
        raise UserError(f"{where}: the text is empty")
    label = record.get(form.label_key)
    if label is None:
        return Example(text, pair)
    if str(label) not in index:
        raise UserError(f"{where}: label {label!r} is not one of {', '.join(index)[:200]}")
    return Example(text, pair, index[str(label)])


def _labels_of(directory: Path, name: str, form: Format) -> list[str]:
    """Labels from labels.json when it is there (TNEWS, IFLYTEK), else from the training data."""
    path: Path | None = directory / "labels.json"
    if not (directory / "labels.json").exists():
        path = _split_file(directory, "train")
    if path is None:
        raise UserError(_missing(name, directory, "labels.json or train.json"))
    labels = {str(r[form.label_key]) for _, r in records(path) if form.label_key in r}
    if not labels:
        raise UserError(f"{path}: no field {form.label_key!r} in any record")
    return sorted(
        labels, key=lambda label: (not label.isdigit(), int(label) if label.isdigit() else 0, label)
    )


def _split_file(directory: Path, split: str) -> Path | None:
    names = TRAIN_FILES if split == "train" else (f"{split}.json",)
    return next((directory / name for name in names if (directory / name).is_file()), None)


def _missing(name: str, directory: Path | None, what: str) -> str:
    return (
        f"task {name}: {what} is missing ({directory or 'task.directory is not set'}).\n"
        f"  Download the task's official archive ({name}_public.zip; links: {HOME}),\n"
        f"  unpack it, and set task.directory to the folder that holds train.json and dev.json."
    )
