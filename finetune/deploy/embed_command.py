"""`python -m finetune embed`: texts in, an .npy file of vectors out."""

import json
import sys

import numpy as np

from data_pipeline.base.errors import UserError
from data_pipeline.base.files import whole_file
from data_pipeline.base.recipes import check
from finetune.deploy.predict_command import output_of, read_rows
from finetune.settings import EmbeddingSettings
from finetune.tasks.scored import number_in
from finetune.training.scores import CORRELATIONS

OPTIONS = ("pooling", "normalise", "max_length")


def embed_texts(arguments) -> int:
    """Embed the arguments' texts, a table's column, or the lines of a file or stdin.

    Row i of the output is of line i; an empty line has zeros. With --pair and --score: see
    `compare_with_scores`.
    """
    if arguments.pair or arguments.score:
        return compare_with_scores(arguments)
    path = output_of(arguments)
    if path and path.suffix != ".npy":
        raise UserError(f"--output {path}: vectors are written as .npy")
    texts = [row.line for row in read_rows(arguments)]
    filled = [number for number, text in enumerate(texts) if text.strip()]
    if not filled:
        raise UserError("no text: give texts as arguments, a file with --input, or lines on stdin")
    embedded = open_embedder(arguments).embed([texts[number] for number in filled])
    vectors = np.zeros((len(texts), embedded.shape[1]), np.float32)
    vectors[filled] = embedded
    if path is None:
        for vector in vectors:
            print(json.dumps([round(float(value), 6) for value in vector]))
        return 0
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.save(file, vectors)
    empty = len(texts) - len(filled)
    more = f" ({empty} of empty lines are zero)" if empty else ""
    print(f"{len(texts)} vectors of {vectors.shape[1]} written to {path}{more}", file=sys.stderr)
    return 0


def open_embedder(arguments):
    """The model of a command line, with its options."""
    from finetune.deploy.embed import Embedder

    asked = {name: getattr(arguments, name) for name in OPTIONS}
    asked = {name: value for name, value in asked.items() if value is not None}
    settings = check(EmbeddingSettings, asked, "embed") if asked else None
    return Embedder(arguments.model, settings, arguments.threads)


def compare_with_scores(arguments) -> int:
    """Print how the cosines of a table's pairs correlate with its scores."""
    if not (arguments.input and arguments.text and arguments.pair and arguments.score):
        raise UserError(
            "--pair and --score go together, with --text, and name columns of the table --input"
        )
    rows = read_rows(arguments)
    scores = [
        number_in(row.record.get(arguments.score), arguments.score, row.where) for row in rows
    ]
    embedder = open_embedder(arguments)
    cosines = embedder.cosines([row.text for row in rows], [row.pair for row in rows])
    gold = np.asarray(scores)
    correlations = {
        name: round(float(function(cosines, gold)), 6) for name, function in CORRELATIONS.items()
    }
    print(json.dumps({"pairs": len(rows), **correlations}))
    return 0
