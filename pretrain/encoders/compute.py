"""The section `compute` of a recipe, and what an engine is. Both know no table of engines, so that
engines may import them."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from data_pipeline.base.recipes import Recipe

if TYPE_CHECKING:
    from paddle import Tensor

Engine = Callable[["Tensor", "Tensor"], "list[Tensor]"]
"""Of (input_ids, attention_mask), int64 [B, L]: the teacher's Q, K, V and, where asked for, output
hidden states of one layer, [B, L, hidden size]."""


class Compute(Recipe):
    """Ways to compute an encoder's layers: the same function at another cost."""

    attention: Literal["plain", "fused"] = "plain"
    """`plain`: as PaddleNLP computes it; `fused`: by F.scaled_dot_product_attention, which on a GPU
    keeps no table of attention weights."""
    recompute: bool = False
    """Compute the layers of the trained encoder once more on the way back instead of keeping what
    they computed: less memory, a third more time."""
