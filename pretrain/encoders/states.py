"""Q, K, V and output hidden states of one encoder layer, computing nothing above it."""

from collections.abc import Callable
from functools import partial

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from pretrain.encoders.compute import Compute

PLAIN = Compute()  # no default argument: Paddle's compiler copies signatures, not their globals


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
    encoder: nn.Layer,
    input_ids: Tensor,
    attention_mask: Tensor,
    layer: int,
    with_hidden: bool,
    compute: Compute | None = None,
):
    """`qkv_at`, and with `with_hidden` also what the layer puts out, [B, L, hidden size]."""
    below = hidden_states(encoder, input_ids, attention_mask, layer - 1, compute)
    block = encoder.encoder.layers[layer - 1]
    attention, inner = block.self_attn, below
    if block.normalize_before:
        inner = block.norm1(below)
    qkv = attention.q_proj(inner), attention.k_proj(inner), attention.v_proj(inner)
    if not with_hidden:
        return qkv
    return (*qkv, run_block(block, below, attention_bias(attention_mask), compute))


def embedder(encoder: nn.Layer) -> Callable[[Tensor], Tensor]:
    """The function from ids, int64 [B, L], to what goes into the first layer, [B, L, hidden size].

    ELECTRA's embeddings may be narrower and are then projected. The function does not hold the
    layers, so their memory can be freed.
    """
    embeddings, project = encoder.embeddings, getattr(encoder, "embeddings_project", None)

    def embed(input_ids: Tensor) -> Tensor:
        embedded = embeddings(input_ids=input_ids)
        return embedded if project is None else project(embedded)

    return embed


def hidden_states(
    encoder: nn.Layer,
    input_ids: Tensor,
    attention_mask: Tensor,
    layers: int,
    compute: Compute | None = None,
) -> Tensor:
    """What layer number `layers` puts out, [B, L, hidden size]; 0 are the embeddings."""
    bias = attention_bias(attention_mask)
    hidden = embedder(encoder)(input_ids)
    for index in range(layers):
        hidden = run_block(encoder.encoder.layers[index], hidden, bias, compute)
    return hidden


def attention_bias(attention_mask: Tensor) -> Tensor:
    """[B, L] of 1 and 0 to [B, 1, 1, L] of 0 and -1e4, as PaddleNLP's encoders add it."""
    return ((1.0 - attention_mask.astype(paddle.get_default_dtype())) * -1e4).unsqueeze([1, 2])


def run_block(
    block: nn.TransformerEncoderLayer, hidden: Tensor, bias: Tensor, compute: Compute | None
) -> Tensor:
    """One whole layer, [B, L, hidden size], computed as `compute` says."""
    compute = compute or PLAIN
    function = partial(fused_block, block) if compute.attention == "fused" else block
    if compute.recompute and not hidden.stop_gradient:
        from paddle.distributed.fleet.utils import recompute

        return recompute(function, hidden, bias)  # dropout draws the same numbers both times
    return function(hidden, bias)


def fused_block(block: nn.TransformerEncoderLayer, hidden: Tensor, bias: Tensor) -> Tensor:
    """`block(hidden, bias)` with `fused_attention`."""
    inner = block.norm1(hidden) if block.normalize_before else hidden
    hidden = hidden + block.dropout1(fused_attention(block.self_attn, inner, bias))
    if not block.normalize_before:
        hidden = block.norm1(hidden)
    inner = block.norm2(hidden) if block.normalize_before else hidden
    inner = block.linear2(block.dropout(block.activation(block.linear1(inner))))
    hidden = hidden + block.dropout2(inner)
    return hidden if block.normalize_before else block.norm2(hidden)


def fused_attention(attention: nn.MultiHeadAttention, x: Tensor, bias: Tensor) -> Tensor:
    """`attention(x, x, x, bias)` in one operation. x: [B, L, hidden size]; bias: [B, 1, 1, L]."""
    batch, length, _ = x.shape
    heads = [batch, length, attention.num_heads, attention.head_dim]
    q, k, v = (
        project(x).reshape(heads)
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    mixed = F.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=bias.astype(q.dtype).expand([batch, 1, length, length]),
        dropout_p=attention.dropout,
        training=attention.training,
    )
    return attention.out_proj(mixed.reshape([batch, length, -1]))
