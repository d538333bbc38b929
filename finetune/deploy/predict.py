"""Text in, predictions out, whatever computes them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.base.errors import UserError
from finetune.deploy.answers import ANSWERS
from finetune.deploy.backends import open_backend, outputs_of, read_deploy
from finetune.tasks import Example
from finetune.training.batches import Encoded
from finetune.training.files import read_labels, read_result
from finetune.training.kinds import KINDS, kind_of
from finetune.training.label_set_data import THRESHOLD
from pretrain.encoders.config import read_config

Pairs = Sequence[str | None] | None
"""The second text of each text, if the task has any."""


class Predictor:
    """A deployable (or classifier) directory, ready to predict what its kind of task asks for.

    `kind` is that of the model's task. `threads` are those of one call. Texts are batched by
    length, so that little is padded.
    """

    def __init__(self, directory: Path | str, threads: int = 2, batch_size: int = 32):
        from data_pipeline.text.encode import WordPieceEncoder

        self.directory = Path(directory)
        if not self.directory.is_dir():
            raise UserError(f"{directory}: no such model directory")
        self.kind, about = _kind_and_settings(self.directory)
        self.max_length = int(about.get("max_length", 128))
        self.decision = {THRESHOLD: float(about.get(THRESHOLD, 0.5))}
        self.backend = open_backend(self.directory, threads)
        self.labels = read_labels(self.directory, KINDS[self.kind].least_labels)
        self.encoder = WordPieceEncoder.of_directory(self.directory)
        self.batch_size = batch_size

    def predict(self, texts: list[str], pairs: Pairs = None) -> list[Any]:
        """One prediction a text, in order, of the class that `ANSWERS` has for the model's kind;
        UserError for an empty text."""
        data = self.encode(texts, pairs)
        return ANSWERS[self.kind](texts, data, self.encoded_logits(data), self.labels)

    def logits(self, texts: list[str], pairs: Pairs = None) -> np.ndarray:
        """float32 [n, classes] (tokens: see `encoded_logits`); UserError for an empty text."""
        return self.encoded_logits(self.encode(texts, pairs))

    def encode(self, texts: list[str], pairs: Pairs = None) -> Encoded:
        """Texts (or pairs) as the model's ids; UserError for an empty text."""
        for number, text in enumerate(texts, 1):
            if not text or not text.strip():
                raise UserError(f"text {number} is empty")
        if pairs is not None and len(pairs) != len(texts):
            raise UserError(f"{len(texts)} texts but {len(pairs)} pairs")
        if not KINDS[self.kind].takes_pairs and any(pair is not None for pair in pairs or []):
            raise UserError(f"{self.directory}: finds entities in single texts, not in pairs")
        seconds = pairs or [None] * len(texts)
        return self.encode_examples(
            [Example(text, pair) for text, pair in zip(texts, seconds, strict=True)]
        )

    def encode_examples(self, examples: list[Example]) -> Encoded:
        """Examples, labelled or not, as the model's ids; they are scored as the model predicts."""
        encode = KINDS[self.kind].encode
        data = encode(self.encoder, examples, self.max_length, self.labels)
        return data.with_decision(self.decision)

    def encoded_logits(self, data: Encoded) -> np.ndarray:
        """Logits of encoded examples, as `data.collect` shapes them."""
        results = outputs_of(self.backend, data, self.batch_size)
        classes = {row.shape[-1] for row in results} - {len(self.labels)}
        if classes:
            raise UserError(
                f"{self.directory}/labels.json: has {len(self.labels)} labels, the model "
                f"{classes.pop()} classes"
            )
        return data.collect(results)


def _kind_and_settings(directory: Path) -> tuple[str, dict]:
    """The kind of task, and what deploy.json (of a classifier: result.json) says."""
    if not (directory / "deploy.json").exists():
        return kind_of(read_config(directory)), read_result(directory)
    deploy = read_deploy(directory)
    kind = deploy.get("kind", "classification")
    if kind not in KINDS:
        raise UserError(
            f"{directory}: a model of kind {kind!r} predicts no labels; kinds that do are "
            f"{', '.join(KINDS)} (`embed` gives the vectors of an exported encoder)"
        )
    return kind, deploy
