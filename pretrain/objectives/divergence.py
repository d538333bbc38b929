"""The KL divergence between two relations, fast: the kernel under `pretrain.objectives.relations`.

The plain form is `relations.row_divergences`; tests compare the two. Tricks, one function each:

- `scores`: the scale is split over both factors, which are smaller than the table of scores, and
  the mask is one more element of each key.
- `log_sum_of_exponentials`: from the largest score and its probability.
- `divergence_and_gradient`: the gradient is formed on the way forward, so that no table is kept.
- `in_parts`: tables are formed a few at a time.
"""

import math

import paddle
import paddle.nn.functional as F
from paddle import Tensor

MASKED = -1e30  # added to the scores of pads; Paddle's softmax then gives them 1e-28 or less
TABLE_CPU = 2**20  # scores formed at once: a table that fits the cache is twice as fast
TABLE_GPU = 2**26  # enough to fill a GPU, and a bound on its memory


def weighted_divergence(
    student: Tensor, teacher: Tensor, keys: Tensor | None, rows: Tensor
) -> Tensor:
    """Sum over rows of weight * KL(softmax(t tT / sqrt(d_t)) || softmax(s sT / sqrt(d_s))).

    Args:
        student, teacher: float32 [M, ..., N, d], each with its own d.
        keys: 1 or 0, [M, ...] broadcast to [M, ..., N], or None when all keys count.
        rows: weights, [M, ...] broadcast to [M, ..., N].

    Returns:
        A scalar with a gradient by `student` alone.
    """
    return WeightedDivergence.apply(student, teacher, keys, rows)


class WeightedDivergence(paddle.autograd.PyLayer):
    """`weighted_divergence`, with its own gradient.

    The derivative by a row of scores is (its student relation - its teacher relation) * weight, so
    the gradient is formed on the way forward, and no [N, N] table is kept for the way back: with
    128 samples in a relation, one such table for each of Q, K and V would be gigabytes.
    """

    @staticmethod
    def forward(ctx, student: Tensor, teacher: Tensor, keys: Tensor | None, rows: Tensor) -> Tensor:
        """Works through the first axis a few items at a time."""
        table = TABLE_CPU if student.place.is_cpu_place() else TABLE_GPU
        step = max(1, table // math.prod([*student.shape[1:-1], student.shape[-2]]))
        count = -(-student.shape[0] // step)
        sides = (in_parts(x, step, count) for x in (student, teacher, keys, rows))
        parts = [divergence_and_gradient(*part) for part in zip(*sides, strict=True)]
        losses, gradients = zip(*parts, strict=True)
        ctx.save_for_backward(gradients[0] if len(parts) == 1 else paddle.concat(gradients))
        return losses[0] if len(parts) == 1 else paddle.stack(losses).sum()

    @staticmethod
    def backward(ctx, upstream: Tensor) -> Tensor:
        """By `student` alone."""
        (gradient,) = ctx.saved_tensor()
        return gradient * upstream


def in_parts(x: Tensor | None, step: int, count: int) -> list[Tensor | None]:
    """`count` parts of `step` along the first axis, the last one smaller; None in as many.

    `split` moves whole blocks of memory; slices of these shapes take as long as the products.
    """
    if x is None or count == 1:
        return [x] * count
    return paddle.split(x, [step] * (count - 1) + [x.shape[0] - step * (count - 1)])


def divergence_and_gradient(student: Tensor, teacher: Tensor, keys: Tensor | None, rows: Tensor):
    """(sum over rows of weight * KL, its gradient by `student`); see WeightedDivergence."""
    student_scores, teacher_scores = scores(student, keys), scores(teacher, keys)
    relation, target = F.softmax(student_scores, axis=-1), F.softmax(teacher_scores, axis=-1)
    # sum t (log t - log s), where log softmax is score - log sum exp
    log_sums = log_sum_of_exponentials(student_scores, relation)
    log_sums = log_sums - log_sum_of_exponentials(teacher_scores, target)
    weighted = teacher_scores.subtract_(student_scores).multiply_(target)
    divergence = weighted.sum(axis=-1) + log_sums
    difference = relation.subtract_(target)
    # The weights go onto x, which is smaller than the table, before and after its products; Paddle
    # multiplies by them ten times faster when they are to be repeated along the last axis alone.
    rows = rows.expand(divergence.shape)
    weights = rows.unsqueeze(-1) * (1.0 / math.sqrt(student.shape[-1]))
    gradient = paddle.matmul(difference, student).multiply_(weights)
    gradient += paddle.matmul(difference, student * weights, transpose_x=True)
    return (divergence * rows).sum(), gradient


def scores(x: Tensor, keys: Tensor | None) -> Tensor:
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


def log_sum_of_exponentials(table: Tensor, softmax: Tensor) -> Tensor:
    """log sum exp over the last axis, from the largest score and its share, which is at least 1/N:
    three times as fast as computing it again, and as exact."""
    return table.max(axis=-1) - softmax.max(axis=-1).log()
