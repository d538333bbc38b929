"""Q, K, V and output of every layer, and how sharp the relations between tokens are in them."""

from collections.abc import Iterator

import numpy as np
from paddle import Tensor, nn

from pretrain.encoders.states import attention_bias, embedder


def states_of_layers(
    encoder: nn.Layer, input_ids: Tensor, attention_mask: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """(q, k, v, output) of each layer from the first, each [B, L, hidden size], in one pass."""
    bias = attention_bias(attention_mask)
    hidden = embedder(encoder)(input_ids)
    for block in encoder.encoder.layers:
        attention, inner = block.self_attn, hidden
        if block.normalize_before:
            inner = block.norm1(hidden)
        qkv = attention.q_proj(inner), attention.k_proj(inner), attention.v_proj(inner)
        hidden = block(hidden, bias)
        yield (*qkv, hidden)


def relation_entropies(x: np.ndarray, mask: np.ndarray, heads: int) -> np.ndarray:
    """Entropy of each row of the token-token relation, as a share of that of a uniform row.

    The relation is softmax(X X^T / sqrt(d)) over the real tokens of a sample, d = hidden / heads.
    A row near 1 relates its token to all others alike, so there is nothing to learn in it; a row
    near 0 relates it to itself alone.

    Args:
        x: float [B, L, hidden size], Q, K or V of a layer.
        mask: [B, L], 1 for a token. Samples with a single token are left out.
        heads: R.

    Returns:
        float64 [rows]: one for each real token and head.
    """
    entropies = []
    for sample, counted in zip(x, mask.astype(bool), strict=True):
        rows = sample[counted].astype(np.float64)
        count = len(rows)
        if count < 2:
            continue
        split = rows.reshape(count, heads, -1).transpose(1, 0, 2)  # [R, n, d]
        scores = split @ split.transpose(0, 2, 1) / np.sqrt(split.shape[-1])
        scores -= scores.max(-1, keepdims=True)
        relation = np.exp(scores)
        total = relation.sum(-1)
        entropy = np.log(total) - (relation * scores).sum(-1) / total
        entropies.append(entropy.ravel() / np.log(count))
    return np.concatenate(entropies) if entropies else np.zeros(0)
