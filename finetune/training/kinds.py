"""Kinds of tasks: how each turns examples into ids and labels. Nothing here needs Paddle.

A new kind is a subclass of `Encoded`, a function that encodes, and an entry in KINDS; the model of
the kind is an entry in `classifier.CLASSIFIERS`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from finetune.tasks import Example, Task
from finetune.training.batches import Encoded, encode
from finetune.training.token_data import EncodedTokens, encode_tokens


@dataclass(frozen=True)
class Kind:
    """Of (WordPiece encoder, examples, max_length, labels), and the class of what comes out."""

    encode: Callable[..., Encoded]
    encoded: type[Encoded]


KINDS = {
    "classification": Kind(
        lambda encoder, examples, max_length, labels: encode(encoder, examples, max_length), Encoded
    ),
    "tokens": Kind(encode_tokens, EncodedTokens),
}


def encode_examples(task: Task, encoder, examples: list[Example], max_length: int) -> Encoded:
    """Examples of a task as ids and labels, in the way of its kind."""
    return KINDS[task.kind].encode(encoder, examples, max_length, task.labels)
