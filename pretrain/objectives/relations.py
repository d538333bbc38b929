"""Self-attention relations and the losses between them: pure functions of tensors.

Sources: MiniLMv2 (https://arxiv.org/abs/2012.15828) for the relation between tokens; PP-MiniLM
(PaddleNLP, model_compression/pp-minilm) for those between samples and between heads.

Everything is float32 inside, whatever the precision outside. Nothing is clipped: an infinite or
NaN input gives a gradient that is not finite, which the step then skips. Inputs up to 1e14 in size
are computed right (see `divergence.MASKED`). A *relation group* is
`group_size` consecutive rows of a batch. Each loss is a mean within a group over counted rows and
heads, and a batch's loss is the mean over its groups; so dealing groups to ranks or accumulating
them changes nothing.

`reference_relation_loss` is the definition. `relation_loss` computes the same numbers without
keeping the [N, N] tables (see `pretrain.objectives.divergence`). Paddle is imported when a function
runs, so that recipes can be checked against RELATIONS without it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from data_pipeline.base.functions import load_function

if TYPE_CHECKING:
    from paddle import Tensor

    from pretrain.objectives.span import RankGroup

NO_WEIGHT = 1e-9  # 1 - 0.3 - 0.7 is 5e-17


@dataclass(frozen=True)
class Groups:
    """The relation groups of a micro-batch, one after another."""

    mask: "Tensor"
    """float32 [B, L], 1 for a token, 0 for padding."""
    size: int
    """Samples of a group in this micro-batch; B is a multiple of it."""
    ranks: "RankGroup | None" = None
    """The ranks that share the group, where its samples lie on several; the micro-batch then is a
    part of one group."""
    whole_mask: "Tensor | None" = None
    """float32 [G, L], `mask` of the whole group, where several ranks share it."""

    def row_weights(self, heads: int) -> "Tensor":
        """Weight of each row [B, L], such that a weighted sum over rows and heads, averaged over
        ranks, is the mean over groups of the mean over a group's real tokens and heads."""
        if self.ranks is not None:
            assert self.whole_mask is not None
            return self.mask * (self.ranks.parts / (self.whole_mask.sum().clip(min=1.0) * heads))
        grouped = self.mask.reshape([-1, self.size, self.mask.shape[1]])  # [groups, G, L]
        counted = grouped.sum(axis=[1, 2], keepdim=True).clip(min=1.0)
        return (grouped / (counted * heads * grouped.shape[0])).reshape(self.mask.shape)


def relation_loss(
    student: "Tensor",
    teacher: "Tensor",
    attention_mask: "Tensor",
    relation_heads: int,
    group_size: int,
    weights: Mapping[str, float],
    ranks: "RankGroup | None" = None,
    whole_mask: "Tensor | None" = None,
) -> "Tensor":
    """Weighted sum of relation losses, for one of Q, K, V.

    Args:
        student, teacher: [B, L, hidden size], each with its own hidden size.
        attention_mask: [B, L].
        relation_heads: R; both hidden sizes are multiples of it.
        group_size: rows of a relation group in this batch; B is a multiple of it.
        weights: by name of the relation, see `relation_weights`.
        ranks, whole_mask: where several ranks share the group, see `Groups`; whole_mask: [G, L].

    Returns:
        A float32 scalar. Relations whose weight is 0 are not computed.
    """
    import paddle

    with paddle.amp.auto_cast(enable=False):
        student = split_heads(student, relation_heads)
        teacher = split_heads(teacher.detach(), relation_heads)
        if whole_mask is not None:
            whole_mask = whole_mask.astype("float32")
        groups = Groups(attention_mask.astype("float32"), group_size, ranks, whole_mask)
        losses = [
            weight * relation_function(name)(student, teacher, groups)
            for name, weight in weights.items()
            if abs(weight) > NO_WEIGHT
        ]
        return sum(losses[1:], losses[0])


def relation_weights(alpha: float, beta: float) -> dict[str, float]:
    """(1 - alpha - beta) token-token + alpha head-head + beta sample-sample, as PP-MiniLM."""
    return {"token": 1 - alpha - beta, "head": alpha, "sample": beta}


def relation_error(
    exact: "list[Tensor]", approximate: "list[Tensor]", mask, heads, group_size, weights
) -> float:
    """KL of an engine's relations from the exact ones, the mean over Q, K, V (and H): 0 is exact.

    It has the unit of the loss, so the two can be compared.
    """
    import paddle

    mask = paddle.to_tensor(mask)
    with paddle.no_grad():
        losses = [
            float(relation_loss(x, y, mask, heads, group_size, weights))
            for x, y in zip(approximate, exact, strict=True)
        ]
    return sum(losses) / len(losses)


# ---- the relations: one function and one entry in RELATIONS each ----


def token_loss(student: "Tensor", teacher: "Tensor", groups: Groups) -> "Tensor":
    """Relation between the tokens of a sample, for each head. x: [B, L, R, d]."""
    from pretrain.objectives.divergence import weighted_divergence

    s, t = (x.transpose([0, 2, 1, 3]) for x in (student, teacher))  # [B, R, L, d]
    rows = groups.row_weights(student.shape[2])
    return weighted_divergence(s, t, groups.mask.unsqueeze(1), rows.unsqueeze(1))


def sample_loss(student: "Tensor", teacher: "Tensor", groups: Groups) -> "Tensor":
    """Relation between the samples of a group, for each position and head. x: [B, L, R, d].

    Samples without a token at a position are neither keys nor rows there. A position with a single
    sample relates it to itself alone, which gives 0.
    """
    from pretrain.objectives.divergence import weighted_divergence

    heads, mask, size = student.shape[2], groups.mask, groups.size
    if groups.ranks is not None:  # now all samples of the group, and R / parts heads
        student, teacher = groups.ranks.exchange(student), groups.ranks.exchange(teacher)
        assert groups.whole_mask is not None
        mask, size = groups.whole_mask, groups.whole_mask.shape[0]
        groups = Groups(mask, size, groups.ranks, mask)
    rows = groups.row_weights(heads)

    def regroup(x):  # [B, L, R, d] -> [groups * L, R, G, d]
        length, heads, width = x.shape[1:]
        grouped = x.reshape([-1, size, length, heads, width]).transpose([0, 2, 3, 1, 4])
        return grouped.reshape([-1, heads, size, width])

    def by_position(x):  # [B, L] -> [groups * L, 1, G]
        grouped = x.reshape([-1, size, x.shape[1]]).transpose([0, 2, 1])
        return grouped.reshape([-1, 1, size])

    return weighted_divergence(
        regroup(student), regroup(teacher), by_position(mask), by_position(rows)
    )


def head_loss(student: "Tensor", teacher: "Tensor", groups: Groups) -> "Tensor":
    """Relation between the heads of a token. x: [B, L, R, d]."""
    from pretrain.objectives.divergence import weighted_divergence

    rows = groups.row_weights(student.shape[2]).unsqueeze(2)  # [B, L, 1]
    return weighted_divergence(student, teacher, None, rows)


RELATIONS: dict[str, Callable[..., "Tensor"]] = {
    "token": token_loss,
    "head": head_loss,
    "sample": sample_loss,
}


def relation_function(name: str) -> Callable[..., "Tensor"]:
    """The relation of that name: one of RELATIONS, or the user's own `package.module:function`."""
    return RELATIONS[name] if name in RELATIONS else load_function(name)


def split_heads(x: "Tensor", relation_heads: int) -> "Tensor":
    """[B, L, hidden] -> float32 [B, L, R, hidden / R]."""
    batch, length, hidden = x.shape
    return x.astype("float32").reshape([batch, length, relation_heads, hidden // relation_heads])


# ---- the definition ----


def reference_relation_loss(student, teacher, attention_mask, relation_heads, group_size, weights):
    """The loss as the papers state it; arguments and result as those of `relation_loss`.

    For X [N, d] of one softmax: relation(X) = softmax(X X^T / sqrt(d)) over the keys that count,
    and a row's loss is KL(relation(teacher) || relation(student)). It keeps every [N, N] table, so
    it is for tests and for readers.
    """
    losses = []
    for first in range(0, student.shape[0], group_size):
        m = attention_mask[first : first + group_size].astype("float32")  # [G, L]
        s, t = (
            x[first : first + group_size].astype("float32").reshape([*m.shape, relation_heads, -1])
            for x in (student, teacher)
        )  # [G, L, R, d]
        rows_of = {
            "token": (row_divergences(s, t, [0, 2, 1, 3], m.unsqueeze(1)), m.unsqueeze(1)),
            "sample": (row_divergences(s, t, [1, 2, 0, 3], m.t().unsqueeze(1)), m.t().unsqueeze(1)),
            "head": (row_divergences(s, t, [0, 1, 2, 3], None), m.unsqueeze(2)),
        }
        for name, weight in weights.items():
            divergence, counts = rows_of[name]
            losses.append(weight * (divergence * counts).sum() / (m.sum() * relation_heads))
    return sum(losses) * group_size / student.shape[0]


def row_divergences(student, teacher, axes: list[int], keys):
    """KL(relation(teacher) || relation(student)) of each row, [..., N].

    student, teacher: [G, L, R, d], put into the order `axes` to be [..., N, d]; keys: [..., N], 1
    where a key counts, or None when all do.
    """
    import paddle.nn.functional as F

    from pretrain.objectives.divergence import MASKED

    logs = []
    for x in (student.transpose(axes), teacher.transpose(axes)):
        scores = x @ x.transpose([0, 1, 3, 2]) / x.shape[-1] ** 0.5  # [..., N, N]
        if keys is not None:
            scores = scores + ((1 - keys) * MASKED).unsqueeze(-2)
        logs.append(F.log_softmax(scores, axis=-1))
    return (logs[1].exp() * (logs[1] - logs[0])).sum(axis=-1)
