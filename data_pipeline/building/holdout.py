"""Documents set aside for the held-out losses: chosen by their number, the same on every run."""

import json

import numpy as np
import xxhash

from data_pipeline.base.files import write_json
from data_pipeline.building.plan import Plan


def decide_share(plan: Plan, documents: int) -> None:
    """Write down which share of the `documents` of the build is held out."""
    settings = plan.recipe.holdout
    share = settings.share
    if settings.documents and documents:
        share = min(1.0, settings.documents / documents)
    write_json(plan.file("write", 0, ".holdout"), share)


def held_out(plan: Plan, piece: int, first: int, count: int) -> np.ndarray:
    """bool [count]: which documents of a piece, from number `first` on, are held out.

    By a hash of piece and number, so that they are spread over the corpus.
    """
    share = _share(plan)
    if share == 0:
        return np.zeros(count, bool)
    keys = (b"%d:%d" % (piece, number) for number in range(first, first + count))
    hashes = np.array([xxhash.xxh3_64_intdigest(key) for key in keys], np.uint64)
    return hashes < np.uint64(share * (2**64 - 1))


def _share(plan: Plan) -> float:
    return json.loads(plan.file("write", 0, ".holdout").read_text())
