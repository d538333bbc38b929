"""Settings of the objectives: relations, and whole-word masking."""

import re
from typing import Literal

from pydantic import Field, model_validator

from data_pipeline.base.functions import FUNCTION_NAME
from data_pipeline.base.recipes import Recipe, wrong_together
from pretrain.encoders.settings import InitialWeights
from pretrain.objectives.relations import RELATIONS, relation_weights


class Relations(Recipe):
    """Which relations of teacher and student are compared."""

    heads: int = Field(64, ge=1)
    """Relation heads R: 64 for a large teacher, 48 for a base one."""
    alpha: float = Field(0.0, ge=0, le=1)
    """Weight of the relation between heads."""
    beta: float = Field(1.0, ge=0, le=1)
    """Weight of the relation between samples; the rest goes to the relation between tokens."""
    hidden: float = Field(0.0, ge=0)
    """Weight of the relation of a fourth tensor H, the layer's output; Q, K and V have 1 each. It
    trains the part of the student's layer that Q, K and V do not reach; 0 as published."""

    extra: dict[str, float] = Field(default_factory=dict)
    """Weights of further relations, added to the three above: by a name in
    `pretrain.objectives.relations.RELATIONS`, or by `package.module:function` for one of your own.
    Such a function takes (student, teacher, groups), as `token_loss` there does."""

    @model_validator(mode="after")
    def _weights_in_range(self):
        if self.alpha + self.beta > 1:
            raise wrong_together(
                f"alpha + beta is {self.alpha + self.beta}; it may be at most 1", "alpha", "beta"
            )
        for name in self.extra:
            if name not in RELATIONS and not re.fullmatch(FUNCTION_NAME, name):
                raise wrong_together(
                    f"extra: {name!r} is none of {', '.join(RELATIONS)}, "
                    "and not package.module:function",
                    "extra",
                )
        return self

    def weights(self) -> dict[str, float]:
        """Weight of each relation, by name."""
        weights = relation_weights(self.alpha, self.beta)
        for name, weight in self.extra.items():
            weights[name] = weights.get(name, 0.0) + weight
        return weights

    def described(self) -> str:
        """In words: `0.5 between tokens + 0.5 between samples, in 64 heads of Q, K and V`."""
        parts = [
            f"{weight:g} between {name}s" if name in RELATIONS else f"{weight:g} {name}"
            for name, weight in self.weights().items()
            if weight
        ]
        tensors = f"Q, K, V and {self.hidden:g} of H" if self.hidden else "Q, K and V"
        return f"{' + '.join(parts)}, in {self.heads} heads of {tensors}"


class Masking(Recipe):
    """Whole-word masking (RoBERTa-wwm, https://arxiv.org/abs/1906.08101)."""

    share: float = Field(0.15, gt=0, lt=1)
    """Of the tokens, whole words at a time."""
    replace_by_mask: float = Field(0.8, ge=0, le=1)
    """Of the chosen tokens, shown as [MASK]."""
    replace_by_random: float = Field(0.1, ge=0, le=1)
    """Of the chosen tokens, shown as some other token; the rest stay as they are."""

    @model_validator(mode="after")
    def _shares(self):
        if self.replace_by_mask + self.replace_by_random > 1:
            raise wrong_together(
                "replace_by_mask and replace_by_random together exceed 1",
                "replace_by_mask",
                "replace_by_random",
            )
        return self


class MaskedLMInitialWeights(InitialWeights):
    """Those of the encoder, and of the head."""

    head: Literal["normal", "unigram"] = "normal"
    """Head: drawn, or almost the identity with the logarithm of token frequencies as bias."""
