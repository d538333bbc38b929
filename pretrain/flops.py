"""Floating-point operations of a distillation step, counted from shapes: products only."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """Sizes of an encoder that its cost depends on."""

    hidden: int
    intermediate: int


def block(shape: Shape, tokens: int, length: int) -> int:
    """One whole layer, forward, over `tokens` tokens in samples of `length`: projections, the
    two products of attention, and the feed-forward."""
    weights = 4 * shape.hidden**2 + 2 * shape.hidden * shape.intermediate
    return 2 * tokens * (weights + 2 * length * shape.hidden)


def truncated(shape: Shape, layer: int, tokens: int, length: int) -> int:
    """Forward up to the Q, K and V of layer number `layer`, from 1."""
    return (layer - 1) * block(shape, tokens, length) + 2 * tokens * 3 * shape.hidden**2


def distillation(
    teacher: Shape, teacher_layer: int, student: Shape, student_layer: int, tokens: int, length: int
) -> int:
    """Teacher forward, student forward and backward (twice the forward). Relations are left out:
    what a step does for them is not what a matrix product's ceiling is about."""
    return truncated(teacher, teacher_layer, tokens, length) + 3 * truncated(
        student, student_layer, tokens, length
    )
