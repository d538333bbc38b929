"""Self-attention relations and the losses between them: pure functions of tensors.

Sources: MiniLMv2 (https://arxiv.org/abs/2012.15828) for the relation between tokens; PP-MiniLM
(PaddleNLP, model_compression/pp-minilm) for those between samples and between heads.

Everything is float32 inside, whatever the precision outside. A *relation group* is
`group_size` consecutive rows of a batch. Each loss is a mean within a group over counted rows and
heads, and a batch's loss is the mean over its groups; so dealing groups to ranks or accumulating
them changes nothing.
"""

import math

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

MASKED = -1e30  # added to the logits of pads: their share is exactly 0 in float32, and finite


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
    below, block = hidden_below(encoder, input_ids, attention_mask, layer)
    if block.normalize_before:
        below = block.norm1(below)
    attention = block.self_attn
    return attention.q_proj(below), attention.k_proj(below), attention.v_proj(below)


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


def relation_loss(
    student: Tensor,
    teacher: Tensor,
    attention_mask: Tensor,
    relation_heads: int,
    group_size: int,
    alpha: float,
    beta: float,
) -> Tensor:
    """(1 - alpha - beta) token-token + alpha head-head + beta sample-sample, for one of Q, K, V.

    Args:
        student, teacher: [B, L, hidden size], each with its own hidden size.
        attention_mask: [B, L].
        relation_heads: R; both hidden sizes are multiples of it.
        group_size: rows of a relation group; B is a multiple of it.

    Returns:
        A float32 scalar. Relations whose weight is 0 are not computed.
    """
    student, teacher = (_split(x, relation_heads) for x in (student, teacher))
    mask = attention_mask.astype("float32")
    loss = paddle.zeros([])
    for weight, relation in (
        (1.0 - alpha - beta, token_loss),
        (alpha, head_loss),
        (beta, sample_loss),
    ):
        if weight != 0.0:
            loss = loss + weight * relation(student, teacher, mask, group_size)
    return loss


def token_loss(student: Tensor, teacher: Tensor, mask: Tensor, group_size: int) -> Tensor:
    """Relation between the tokens of a sample, for each head. x: [B, L, R, d]; mask: [B, L]."""
    heads = student.shape[2]
    s, t = (x.transpose([0, 2, 1, 3]) for x in (student, teacher))  # [B, R, L, d]
    keys = mask.unsqueeze([1, 2])  # [B, 1, 1, L]
    rows = _mean_within_groups(mask, group_size, heads).unsqueeze(1)  # [B, 1, L]
    return _weighted_kl(s, t, keys, rows)


def sample_loss(student: Tensor, teacher: Tensor, mask: Tensor, group_size: int) -> Tensor:
    """Relation between the samples of a group, for each position and head.

    x: [B, L, R, d]; mask: [B, L]. Samples without a token at a position are neither keys nor rows
    there. A position with a single sample relates it to itself alone, which gives 0.
    """
    heads = student.shape[2]

    def regroup(x):  # [B, L, R, d] -> [groups, L, R, G, d]
        return x.reshape([-1, group_size, *x.shape[1:]]).transpose([0, 2, 3, 1, 4])

    def by_position(x):  # [B, L] -> [groups, L, 1, G]
        return x.reshape([-1, group_size, x.shape[1]]).transpose([0, 2, 1]).unsqueeze(2)

    keys = by_position(mask).unsqueeze(3)  # [groups, L, 1, 1, G]
    rows = by_position(_mean_within_groups(mask, group_size, heads))
    return _weighted_kl(regroup(student), regroup(teacher), keys, rows)


def head_loss(student: Tensor, teacher: Tensor, mask: Tensor, group_size: int) -> Tensor:
    """Relation between the heads of a token. x: [B, L, R, d]; mask: [B, L]."""
    rows = _mean_within_groups(mask, group_size, student.shape[2]).unsqueeze(2)  # [B, L, 1]
    return _weighted_kl(student, teacher, None, rows)


def _split(x: Tensor, relation_heads: int) -> Tensor:
    """[B, L, hidden] -> float32 [B, L, R, hidden / R]."""
    batch, length, hidden = x.shape
    return x.astype("float32").reshape([batch, length, relation_heads, hidden // relation_heads])


def _mean_within_groups(mask: Tensor, group_size: int, heads: int) -> Tensor:
    """Weight of each row [B, L], such that a weighted sum over rows and heads is, for a batch, the
    mean over groups of the mean over a group's real tokens and heads."""
    grouped = mask.reshape([-1, group_size, mask.shape[1]])  # [groups, G, L]
    counted = grouped.sum(axis=[1, 2], keepdim=True).clip(min=1.0)
    return (grouped / (counted * heads * grouped.shape[0])).reshape(mask.shape)


def _weighted_kl(student: Tensor, teacher: Tensor, keys: Tensor | None, rows: Tensor) -> Tensor:
    """Sum over rows of weight * KL(softmax(t tT / sqrt(d_t)) || softmax(s sT / sqrt(d_s))).

    student, teacher: [..., N, d]; keys: 1 or 0, broadcast to [..., N, N]; rows: weights, broadcast
    to [..., N].
    """
    bias = None if keys is None else (1.0 - keys) * MASKED
    with paddle.no_grad():
        target_log = _log_relation(teacher, bias)
        target = target_log.exp()
        entropy = (target * target_log).sum(axis=-1)  # [..., N]
    cross = (target * _log_relation(student, bias)).sum(axis=-1)
    return ((entropy - cross) * rows).sum()


def _log_relation(x: Tensor, bias: Tensor | None) -> Tensor:
    """log softmax(x xT / sqrt(d) + bias), [..., N, N]. The scale goes onto x, which is smaller."""
    x = x * (1.0 / math.sqrt(math.sqrt(x.shape[-1])))
    scores = paddle.matmul(x, x, transpose_y=True)
    return F.log_softmax(scores if bias is None else scores + bias, axis=-1)
