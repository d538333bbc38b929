"""How often each document is in the shards: `weight` and `repeat` of its source.

The *rate* of a source is how often its documents are in the shards on average. *Copy* k of a piece
(k = 0, 1, ...) holds all documents of a source with a rate of k + 1 or more, and of a source with a
lower rate that is above k the share rate - k.
"""

import json
import math

import numpy as np
import xxhash

from data_pipeline.base.errors import UserError
from data_pipeline.base.files import write_json
from data_pipeline.building import dedup, provenance
from data_pipeline.building.plan import Plan
from data_pipeline.sources.settings import CorpusSource


def decide(plan: Plan) -> None:
    """Write down the rate of every source, once it is known what duplicates are removed; nothing
    when that was done before a build was stopped.

    UserError when a source that has a weight has no text left.
    """
    path = plan.file("write", 0, ".rates")
    if path.exists():
        return
    sources = plan.recipe.sources
    rates = [source.repeat for source in sources]
    if sources[0].weight is not None:
        rates = weighted(sources, characters_left(plan))
    write_json(path, rates)


def weighted(sources: tuple[CorpusSource, ...], characters: list[float]) -> list[float]:
    """The highest rates, none above the source's `repeat`, that make the parts as the weights say.

    characters: of each source, in the documents that are left.
    """
    for number, size in enumerate(characters):
        if size == 0:
            raise UserError(
                f"sources.{number}.weight: no text of this source is left; remove the source, or "
                "look in the counters of build.jsonl for why its text is left out"
            )
    weights = [source.weight for source in sources if source.weight is not None]
    wanted = [weight / size for weight, size in zip(weights, characters, strict=True)]
    scale = min(source.repeat / rate for source, rate in zip(sources, wanted, strict=True))
    return [scale * rate for rate in wanted]


def characters_left(plan: Plan) -> list[float]:
    """Characters of each source without near duplicates. Of a document that loses sentences as
    exact duplicates, its mean sentence counts for each."""
    total = np.zeros(len(plan.recipe.sources))
    exact, near = dedup.Drops(plan, "exact"), dedup.Drops(plan, "near")
    for piece in range(plan.pieces):
        documents = provenance.load(plan, piece)
        left = np.ones(len(documents.provenance))
        ends = np.cumsum(documents.sentences)
        repeated = np.searchsorted(ends, exact.of(piece), "right")
        left -= np.bincount(repeated, minlength=len(left)) / documents.sentences
        left[near.of(piece)] = 0
        sizes = left * documents.characters
        total += np.bincount(documents.provenance.source, sizes, minlength=len(total))
    return total.tolist()


def rates(plan: Plan) -> np.ndarray:
    """float64 [sources]: the rate of each."""
    return np.array(json.loads(plan.file("write", 0, ".rates").read_text()))


def copies(document_rates: np.ndarray) -> int:
    """How many copies a piece of documents with these rates needs."""
    return max(1, math.ceil(document_rates.max(initial=0)))


def in_copy(document_rates: np.ndarray, copy: int, piece: int) -> np.ndarray:
    """bool [n]: which documents of a piece are in its copy `copy`.

    document_rates: float [n]. Chosen by a hash of piece and number, so the same on every run.
    """
    share = document_rates - copy
    chosen = share >= 1
    for number in np.flatnonzero((share > 0) & (share < 1)).tolist():
        digest = xxhash.xxh3_64_intdigest(b"%d:%d" % (piece, number), seed=2)
        chosen[number] = digest < share[number] * 2**64
    return chosen
