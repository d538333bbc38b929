"""The section `compute` of a recipe. It knows no table, so that engines may import it."""

from typing import Literal

from data_pipeline.base.recipes import Recipe


class Compute(Recipe):
    """Ways to compute an encoder's layers: the same function at another cost."""

    attention: Literal["plain", "fused"] = "plain"
    """`plain`: as PaddleNLP computes it; `fused`: by F.scaled_dot_product_attention, which on a GPU
    keeps no table of attention weights."""
    recompute: bool = False
    """Compute the layers of the trained encoder once more on the way back instead of keeping what
    they computed: less memory, a third more time."""
