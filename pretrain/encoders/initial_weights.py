"""Initial weights of an encoder that are better than drawn ones: local attention, and what the
corpus's own co-occurrences tell.

The first coordinates of the embeddings hold positions, the rest words; layer norms keep both. Each
part is an option of `InitialWeights`, and what no option reaches keeps its fresh value. Formulas:
see `pretrain.encoders.local_attention` and `pretrain.encoders.cooccurrence`.
"""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import paddle
from paddle import Tensor, nn

from data_pipeline.shards.format import ShardReader
from data_pipeline.text.samples import Ragged
from pretrain.encoders import cooccurrence, local_attention
from pretrain.encoders.settings import InitialWeights

POSITION_SHARE = 0.25  # of an embedding's squared length, the rest is the word's
PEAK = 12.0  # logit at a head's offset; the others are near 0, so it gets 0.99 of the weight
WORD_STD = 0.05  # the decoder is tied: at BERT's 0.02 its logits are too close to each other
NEIGHBOUR_RMS = 1.5  # of the first layer's attention output, relative to 1 of what it is added to
DISTANCES = (1, 2, 3, 4)
BLOCK = 16384  # samples read at a time


def initialise(
    encoder: nn.Layer, settings: InitialWeights, shards: Path, special: Iterable[int], seed: int
) -> None:
    """Set the initial weights that `settings` asks for; the same on every rank.

    shards: read only where the corpus decides; special: ids of special tokens, not counted.
    """
    random = np.random.default_rng(seed)
    config = encoder.config
    pairs = position_pairs(config) if settings.local_attention else 0
    counts = {}
    if settings.from_corpus:
        samples, special = Samples(shards), list(special)
        counts = {
            d: cooccurrence.neighbour_counts(samples, d, config.vocab_size, special)
            for d in DISTANCES
        }
    if settings.words == "cooccurrence":
        size = config.hidden_size - 2 * pairs
        vectors = cooccurrence.word_vectors(counts.values(), size, WORD_STD, random)
        put(encoder.embeddings.word_embeddings.weight, np.pad(vectors, [(0, 0), (2 * pairs, 0)]))
    if settings.local_attention:
        set_local_attention(encoder, random)
    if settings.neighbours:
        set_neighbour_maps(encoder, pairs, counts, random)


class Samples:
    """All samples of a directory of shards, read block by block, as often as they are iterated."""

    def __init__(self, shards: Path):
        self.shards = shards

    def __iter__(self) -> Iterator[Ragged]:
        reader = ShardReader(self.shards)
        total = reader.manifest.samples
        for start in range(0, total, BLOCK):
            yield reader.range(start, min(start + BLOCK, total))


def position_pairs(config) -> int:
    """Pairs of sine and cosine: no more than a head has room for, and a quarter of the width."""
    head_size = config.hidden_size // config.num_attention_heads
    return max(1, min(16, head_size // 2, config.hidden_size // 8))


def set_local_attention(encoder: nn.Layer, random: np.random.Generator) -> None:
    """Positions in the first coordinates, two for each of `position_pairs`, and heads that look at
    their offset (see `local_attention.offsets`). Words keep their values elsewhere."""
    config, embeddings = encoder.config, encoder.embeddings
    pairs = position_pairs(config)
    width, heads = config.hidden_size, config.num_attention_heads
    place, size = 2 * pairs, width // heads
    words = embeddings.word_embeddings.weight.numpy()
    words[:, :place] = 0
    put(embeddings.word_embeddings.weight, words)
    # By the mean square of a word: the layer norm then gives positions POSITION_SHARE of the width.
    energy = (words**2).sum(1).mean() * POSITION_SHARE / (1 - POSITION_SHARE) / pairs
    table = np.zeros((config.max_position_embeddings, width))
    table[:, :place] = math.sqrt(energy) * local_attention.positions(len(table), pairs)
    put(embeddings.position_embeddings.weight, table)
    put(embeddings.token_type_embeddings.weight, np.zeros([config.type_vocab_size, width]))
    amplitude = math.sqrt(width * POSITION_SHARE / pairs)  # of a pair behind the layer norm
    for number, layer in enumerate(encoder.encoder.layers):
        attention = layer.self_attn
        query, key = attention.q_proj.weight.numpy(), attention.k_proj.weight.numpy()
        for head, offset in enumerate(local_attention.offsets(number, heads)):
            at = slice(head * size, head * size + place)
            own = local_attention.query_and_key(pairs, size, offset, amplitude, PEAK)
            query[:place, at], key[:place, at] = own[0].T, own[1].T  # stored [inputs, outputs]
        value, output = (np.linalg.qr(random.normal(size=(width, width)))[0] for _ in range(2))
        value[:place] = 0  # content passes on, positions stay as they are
        output[:, :place] *= 0.1
        put(attention.q_proj.weight, query)
        put(attention.k_proj.weight, key)
        put(attention.v_proj.weight, value)
        put(attention.out_proj.weight, output / (1 + number))  # higher layers change less at first
        down = layer.linear2.weight.numpy()
        down[:, :place] *= 0.1
        put(layer.linear2.weight, down)


def set_neighbour_maps(encoder, pairs: int, counts: dict, random: np.random.Generator) -> None:
    """Let the first layer's heads add what their neighbour makes likely to the hidden token.

    Each head's value and output projections are the neighbour map of its offset, cut to the rank
    that the head has.
    """
    width, heads = encoder.config.hidden_size, encoder.config.num_attention_heads
    size, place = width // heads, 2 * pairs
    words = encoder.embeddings.layer_norm(encoder.embeddings.word_embeddings.weight)
    vectors = words.numpy()[:, place:].astype(np.float64)
    frequencies = np.asarray(counts[1].sum(1)).ravel()
    value, output = np.zeros((width, width)), np.zeros((width, width))
    drawn = random.choice(len(vectors), (2000, heads), p=frequencies / frequencies.sum())
    mixed = np.zeros((2000, width - place))
    for head, offset in enumerate(local_attention.offsets(0, heads)):
        pairs_counted = counts[abs(offset)] if offset > 0 else counts[abs(offset)].T.tocsr()
        matrix = cooccurrence.neighbour_map(pairs_counted, vectors, frequencies)
        mixed += vectors[drawn[:, head]] @ matrix.T
        left, singular, right = np.linalg.svd(matrix)
        root, at = np.sqrt(singular[:size]), slice(head * size, (head + 1) * size)
        rank = len(root)
        value[place:, at.start : at.start + rank] = (root[:, None] * right[:rank]).T
        output[at.start : at.start + rank, place:] = (left[:, :rank] * root).T
    scale = math.sqrt(NEIGHBOUR_RMS / max(math.sqrt((mixed**2).mean()), 1e-12))
    attention = encoder.encoder.layers[0].self_attn
    put(attention.v_proj.weight, value * scale)
    put(attention.out_proj.weight, output * scale)


@paddle.no_grad()
def put(parameter: Tensor, values: np.ndarray) -> None:
    """Set a parameter's values."""
    parameter.set_value(paddle.to_tensor(np.ascontiguousarray(values), dtype=parameter.dtype))
