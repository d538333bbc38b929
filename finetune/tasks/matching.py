"""Does this body belong to this title? Pairs made of iNEWS by a fixed rule.

Every title is used once. Those of even number (in the order of the split) have the beginning of
their own body, the others that of the article with the most similar title, by cosine of TF-IDF over
character bigrams. Where titles stand in the bodies they are taken out, or comparing characters
would be enough. Articles of the same story (one site copies another) are no negatives: bodies with
a similarity of `SAME_STORY` or more are passed over.
"""

from functools import lru_cache

import numpy as np

from finetune.tasks.base import Example, Task
from finetune.tasks.options import TaskOptions

LABELS = ["other", "same"]
BODY_CHARACTERS = 100
SHORTEST_BODY = 20  # of what is left without the title
SAME_STORY = 0.3


def inews_matching(settings: TaskOptions) -> Task:
    """Title and beginning of a body; labels "other" and "same", half of the examples each."""
    return Task("inews_matching", LABELS, lambda split: list(_pairs(split)), max_length=96)


@lru_cache(maxsize=3)
def _pairs(split: str) -> tuple[Example, ...]:
    titles, bodies = articles(split)
    own = np.arange(len(titles)) % 2 == 0
    of_body = np.where(own, np.arange(len(titles)), closest(titles, bodies))
    return tuple(
        Example(title, bodies[body], int(is_own))
        for title, body, is_own in zip(titles, of_body, own, strict=True)
        if body >= 0
    )


def articles(split: str) -> tuple[list[str], list[str]]:
    """(titles, beginnings of bodies without the title) of the articles that have both."""
    from data_pipeline.sources.packaged import inews

    pairs = []
    for title, body, _ in zip(*inews(split), strict=True):
        pair = " ".join(title.split()), without_title(body, title)
        if pair[0] and len(pair[1]) >= SHORTEST_BODY:
            pairs.append((pair[0], pair[1][:BODY_CHARACTERS]))
    return [title for title, _ in pairs], [body for _, body in pairs]


def without_title(body: str, title: str) -> str:
    """A body on one line, without the title in it and without "原标题：" before it."""
    body = " ".join(body.replace("\\n", " ").split()).replace("原标题：", " ")
    title = " ".join(title.split())
    return " ".join((body.replace(title, " ") if title else body).split())


def closest(titles: list[str], bodies: list[str]) -> np.ndarray:
    """int64 [n]: the article with the most similar title whose body tells another story.

    The first of equal ones; -1 where there is none.
    """
    by_title, by_body = similarities(titles), similarities(bodies)
    closest = np.full(len(titles), -1)
    for row in range(len(titles)):
        allowed = by_body[row].toarray().ravel() < SAME_STORY
        allowed[row] = False
        score = np.where(allowed, by_title[row].toarray().ravel(), -1.0)
        if allowed.any():
            closest[row] = int(score.argmax())
    return closest


def similarities(texts: list[str]):
    """Sparse float32 [n, n]: cosine of TF-IDF over character bigrams."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectors = TfidfVectorizer(analyzer="char", ngram_range=(2, 2), dtype=np.float32)
    matrix = vectors.fit_transform(texts)
    return (matrix @ matrix.T).tocsr()
