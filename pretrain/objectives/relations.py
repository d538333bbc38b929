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

MASKED = -1e30  # added to the scores of pads; Paddle's softmax then gives them 1e-28 or less
NO_WEIGHT = 1e-9  # 1 - 0.3 - 0.7 is 5e-17
LARGEST = 1e12  # of an element of Q, K or V: scores stay finite, and far above MASKED
TABLE_CPU = 2**20  # scores formed at once: a table that fits the cache is twice as fast
TABLE_GPU = 2**26  # enough to fill a GPU, and a bound on its memory


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
    with paddle.amp.auto_cast(enable=False):
        student = _split(student, relation_heads)
        teacher = _split(teacher.detach(), relation_heads)
        mask = attention_mask.astype("float32")
        weighted = ((1 - alpha - beta, token_loss), (alpha, head_loss), (beta, sample_loss))
        losses = [
            weight * relation(student, teacher, mask, group_size)
            for weight, relation in weighted
            if abs(weight) > NO_WEIGHT
        ]
        return sum(losses[1:], losses[0])


def token_loss(student: Tensor, teacher: Tensor, mask: Tensor, group_size: int) -> Tensor:
    """Relation between the tokens of a sample, for each head. x: [B, L, R, d]; mask: [B, L]."""
    heads = student.shape[2]
    s, t = (x.transpose([0, 2, 1, 3]) for x in (student, teacher))  # [B, R, L, d]
    keys = mask.unsqueeze(1)  # [B, 1, L]
    rows = _mean_within_groups(mask, group_size, heads).unsqueeze(1)  # [B, 1, L]
    return WeightedDivergence.apply(s, t, keys, rows)


def sample_loss(student: Tensor, teacher: Tensor, mask: Tensor, group_size: int) -> Tensor:
    """Relation between the samples of a group, for each position and head.

    x: [B, L, R, d]; mask: [B, L]. Samples without a token at a position are neither keys nor rows
    there. A position with a single sample relates it to itself alone, which gives 0.
    """
    heads = student.shape[2]

    def regroup(x):  # [B, L, R, d] -> [groups * L, R, G, d]
        length, heads, width = x.shape[1:]
        grouped = x.reshape([-1, group_size, length, heads, width]).transpose([0, 2, 3, 1, 4])
        return grouped.reshape([-1, heads, group_size, width])

    def by_position(x):  # [B, L] -> [groups * L, 1, G]
        grouped = x.reshape([-1, group_size, x.shape[1]]).transpose([0, 2, 1])
        return grouped.reshape([-1, 1, group_size])

    keys = by_position(mask)
    rows = by_position(_mean_within_groups(mask, group_size, heads))
    return WeightedDivergence.apply(regroup(student), regroup(teacher), keys, rows)


def head_loss(student: Tensor, teacher: Tensor, mask: Tensor, group_size: int) -> Tensor:
    """Relation between the heads of a token. x: [B, L, R, d]; mask: [B, L]."""
    rows = _mean_within_groups(mask, group_size, student.shape[2]).unsqueeze(2)  # [B, L, 1]
    return WeightedDivergence.apply(student, teacher, None, rows)


def _split(x: Tensor, relation_heads: int) -> Tensor:
    """[B, L, hidden] -> float32 [B, L, R, hidden / R]."""
    batch, length, hidden = x.shape
    x = x.astype("float32").clip(-LARGEST, LARGEST)
    return x.reshape([batch, length, relation_heads, hidden // relation_heads])


def _mean_within_groups(mask: Tensor, group_size: int, heads: int) -> Tensor:
    """Weight of each row [B, L], such that a weighted sum over rows and heads is, for a batch, the
    mean over groups of the mean over a group's real tokens and heads."""
    grouped = mask.reshape([-1, group_size, mask.shape[1]])  # [groups, G, L]
    counted = grouped.sum(axis=[1, 2], keepdim=True).clip(min=1.0)
    return (grouped / (counted * heads * grouped.shape[0])).reshape(mask.shape)


class WeightedDivergence(paddle.autograd.PyLayer):
    """Sum over rows of weight * KL(softmax(t tT / sqrt(d_t)) || softmax(s sT / sqrt(d_s))).

    The derivative by a row of scores is (its student relation - its teacher relation) * weight, so
    the gradient is formed on the way forward, and no [N, N] table outlives this function: with 128
    samples in a relation, one such table for each of Q, K and V would be gigabytes.
    """

    @staticmethod
    def forward(ctx, student: Tensor, teacher: Tensor, keys: Tensor | None, rows: Tensor) -> Tensor:
        """student, teacher: float32 [M, ..., N, d]; keys: 1 or 0, and rows: weights, both [M, ...],
        broadcast to [M, ..., N]. Returns a scalar. Works through M a few at a time."""
        table = TABLE_CPU if student.place.is_cpu_place() else TABLE_GPU
        step = max(1, table // math.prod([*student.shape[1:-1], student.shape[-2]]))
        count = -(-student.shape[0] // step)
        sides = (_in_parts(x, step, count) for x in (student, teacher, keys, rows))
        parts = [_divergence(*part) for part in zip(*sides, strict=True)]
        losses, gradients = zip(*parts, strict=True)
        ctx.save_for_backward(gradients[0] if len(parts) == 1 else paddle.concat(gradients))
        return losses[0] if len(parts) == 1 else paddle.stack(losses).sum()

    @staticmethod
    def backward(ctx, upstream: Tensor) -> Tensor:
        """By `student` alone."""
        (gradient,) = ctx.saved_tensor()
        return gradient * upstream


def _in_parts(x: Tensor | None, step: int, count: int) -> list[Tensor | None]:
    """`count` parts of `step` along the first axis, the last one smaller; None in as many.

    `split` moves whole blocks of memory; slices of these shapes take as long as the products.
    """
    if x is None or count == 1:
        return [x] * count
    return paddle.split(x, [step] * (count - 1) + [x.shape[0] - step * (count - 1)])


def _divergence(student: Tensor, teacher: Tensor, keys: Tensor | None, rows: Tensor):
    """(sum over rows of weight * KL, its gradient by `student`); see WeightedDivergence."""
    scores, target_scores = _scores(student, keys), _scores(teacher, keys)
    relation, target = F.softmax(scores, axis=-1), F.softmax(target_scores, axis=-1)
    # sum t (log t - log s), where log softmax is score - log sum exp
    log_sums = _log_sum(scores, relation) - _log_sum(target_scores, target)
    divergence = target_scores.subtract_(scores).multiply_(target).sum(axis=-1) + log_sums
    pull = relation.subtract_(target)
    # The weights go onto x, which is smaller than the table, before and after its products; Paddle
    # multiplies by them ten times faster when they are to be repeated along the last axis alone.
    rows = rows.expand(divergence.shape)
    weights = rows.unsqueeze(-1) * (1.0 / math.sqrt(student.shape[-1]))
    gradient = paddle.matmul(pull, student).multiply_(weights)
    gradient += paddle.matmul(pull, student * weights, transpose_x=True)
    return (divergence * rows).sum(), gradient


def _scores(x: Tensor, keys: Tensor | None) -> Tensor:
    """x xT / sqrt(d), [..., N, N], and MASKED in the columns of keys that are 0.

    The scale goes onto x, which is smaller. So does the mask, as one more element of each key that
    meets a 1 in each row: adding a broadcast table to the scores takes longer than their product.
    """
    x = x * (1.0 / math.sqrt(math.sqrt(x.shape[-1])))
    if keys is None:
        return paddle.matmul(x, x, transpose_y=True)
    bias = ((1.0 - keys) * MASKED).expand(x.shape[:-1]).unsqueeze(-1)
    queries = paddle.concat([x, paddle.ones_like(bias)], axis=-1)
    return paddle.matmul(queries, paddle.concat([x, bias], axis=-1), transpose_y=True)


def _log_sum(scores: Tensor, softmax: Tensor) -> Tensor:
    """log sum exp over the last axis, from the largest score and its share, which is at least 1/N:
    three times as fast as computing it anew, and as exact."""
    return scores.max(axis=-1) - softmax.max(axis=-1).log()
