"""Q, K, V and output hidden states of one encoder layer, computing nothing above it."""

import paddle
from paddle import Tensor, nn


def qkv_at(encoder: nn.Layer, input_ids: Tensor, attention_mask: Tensor, layer: int):
    """Q, K and V of one layer, computing nothing above or after them.

    Args:
        encoder: a PaddleNLP encoder: `embeddings`, and `encoder.layers` of
            `nn.TransformerEncoderLayer`.
        input_ids: int64 [B, L].
        attention_mask: [B, L], 1 for a token, 0 for padding.
        layer: number of the layer, from 1.

    Returns:
        (q, k, v), each [B, L, hidden size].
    """
    return states_at(encoder, input_ids, attention_mask, layer, with_hidden=False)


def states_at(
    encoder: nn.Layer, input_ids: Tensor, attention_mask: Tensor, layer: int, with_hidden: bool
):
    """`qkv_at`, and with `with_hidden` also what the layer puts out, [B, L, hidden size]."""
    below, block = hidden_below(encoder, input_ids, attention_mask, layer)
    attention, inner = block.self_attn, below
    if block.normalize_before:
        inner = block.norm1(below)
    qkv = attention.q_proj(inner), attention.k_proj(inner), attention.v_proj(inner)
    return (*qkv, block(below, attention_bias(attention_mask))) if with_hidden else qkv


def hidden_below(encoder: nn.Layer, input_ids: Tensor, attention_mask: Tensor, layer: int):
    """What goes into layer number `layer` (from 1), [B, L, hidden size], and that layer."""
    bias = attention_bias(attention_mask)
    hidden = encoder.embeddings(input_ids=input_ids)
    blocks = encoder.encoder.layers
    for index in range(layer - 1):
        hidden = blocks[index](hidden, bias)
    return hidden, blocks[layer - 1]


def attention_bias(attention_mask: Tensor) -> Tensor:
    """[B, L] of 1 and 0 to [B, 1, 1, L] of 0 and -1e4, as PaddleNLP's encoders add it."""
    return ((1.0 - attention_mask.astype(paddle.get_default_dtype())) * -1e4).unsqueeze([1, 2])
