"""The initial head of masked-language-model pre-training that names tokens by their frequency."""

from pathlib import Path

import numpy as np

from pretrain.encoders.initial_weights import Samples, put
from pretrain.objectives.masked_lm import MaskedLM

HEAD_BIAS = 2.5  # where GELU is close to linear; the layer norm behind it takes the mean away


def set_unigram_head(objective: MaskedLM, shards: Path) -> None:
    """Make the head almost the identity, with the logarithm of token frequencies as bias."""
    size = objective.encoder.config.hidden_size
    put(objective.transform.weight, np.eye(size))
    put(objective.transform.bias, np.full(size, HEAD_BIAS))
    put(objective.bias, log_frequencies(objective.manifest, Samples(shards)))


def log_frequencies(manifest, samples: Samples) -> np.ndarray:
    """Logarithm of each token's share, one added to every count and special tokens left out."""
    counts = np.ones(manifest.vocab_size)
    for part in samples:
        counts += np.bincount(part.ids, minlength=manifest.vocab_size)
    counts[list(manifest.special_ids.values())] = 0.5
    return np.log(counts / counts.sum())
