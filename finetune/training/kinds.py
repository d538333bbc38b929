"""Kinds of tasks: how each turns examples into ids and labels. Nothing here needs Paddle.

A new kind is a subclass of `Encoded`, a function that encodes, and an entry in KINDS; its model and
losses are a class in `heads.py`, its predictions a function in `deploy/answers.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from finetune.tasks import Example, Task
from finetune.training.batches import Encoded, encode
from finetune.training.label_set_data import EncodedLabelSets, encode_label_sets
from finetune.training.score_data import EncodedScores, encode_scores
from finetune.training.token_data import EncodedTokens, encode_tokens


@dataclass(frozen=True)
class Kind:
    """Of (WordPiece encoder, examples, max_length, labels), and the class of what comes out."""

    encode: Callable[..., Encoded]
    encoded: type[Encoded]
    problem_type: str | None = None
    """transformers' name in config.json, for heads on [CLS]."""
    least_labels: int = 2
    """Fewest labels that a model of this kind has."""
    takes_pairs: bool = True


KINDS = {
    "classification": Kind(
        lambda encoder, examples, max_length, labels: encode(encoder, examples, max_length),
        Encoded,
        "single_label_classification",
    ),
    "tokens": Kind(encode_tokens, EncodedTokens, takes_pairs=False),
    "regression": Kind(encode_scores, EncodedScores, "regression", least_labels=1),
    "multi_label": Kind(
        encode_label_sets, EncodedLabelSets, "multi_label_classification", least_labels=1
    ),
}


def encode_examples(task: Task, encoder, examples: list[Example], max_length: int) -> Encoded:
    """Examples of a task as ids and labels, in the way of its kind."""
    return KINDS[task.kind].encode(encoder, examples, max_length, task.labels)


def kind_of(config: dict) -> str:
    """The kind of task that a classifier's config.json was saved for."""
    names = config.get("architectures")
    if isinstance(names, list) and names and str(names[0]).endswith("ForTokenClassification"):
        return "tokens"
    problem = config.get("problem_type")
    if problem is None and len(config.get("id2label") or {}) == 1:
        return "regression"  # as transformers takes a head of one number
    if problem is None:  # as transformers leaves it for one label a text
        return DEFAULT
    return next((name for name, kind in KINDS.items() if kind.problem_type == problem), DEFAULT)


DEFAULT = "classification"
