"""Encoders from directories: PaddleNLP's and Hugging Face's, by what their config.json says."""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from paddle import nn

from data_pipeline.base.errors import UserError
from pretrain.encoders import weights
from pretrain.encoders.config import (
    FAMILIES,
    HUGGING_FACE_DEFAULTS,
    READ,
    config_problems,
    family_of,
    locate,
    read_config,
)

PREFIX = re.compile(rf"^({'|'.join(FAMILIES).lower()})\.")  # of the encoder in models with a head
PARTS = ("embeddings", "embeddings_project", "encoder", "pooler")

# Hugging Face's name of a tensor, and PaddleNLP's. Linear weights are stored transposed there.
FROM_HUGGING_FACE = (
    (PREFIX.pattern, ""),
    (r"LayerNorm\.gamma$", "LayerNorm.weight"),
    (r"LayerNorm\.beta$", "LayerNorm.bias"),
    (r"^embeddings\.LayerNorm\.", "embeddings.layer_norm."),
    (r"^encoder\.layer\.(\d+)\.", r"encoder.layers.\1."),
    (r"\.attention\.self\.query\.", ".self_attn.q_proj."),
    (r"\.attention\.self\.key\.", ".self_attn.k_proj."),
    (r"\.attention\.self\.value\.", ".self_attn.v_proj."),
    (r"\.attention\.output\.dense\.", ".self_attn.out_proj."),
    (r"\.attention\.output\.LayerNorm\.", ".norm1."),
    (r"\.intermediate\.dense\.", ".linear1."),
    (r"\.output\.dense\.", ".linear2."),
    (r"\.output\.LayerNorm\.", ".norm2."),
)


def load_encoder(directory: Path | str, file: str = weights.WEIGHTS) -> nn.Layer:
    """The encoder in a directory (config.json and weights), in evaluation mode.

    Hugging Face directories are converted in memory; heads on top of the encoder are left out, and
    a pooler that is not stored is zero (relations never use it). `file` names the weights; see
    `weights.read` for what it may be. UserError when a part is missing.
    """
    directory = locate(directory)
    config = read_config(directory)
    tensors = weights.read(directory, file)
    encoder = build_for_weights(config, tensors, str(directory))
    tensors = zero_pooler(encoder) | encoder_tensors(tensors)
    weights.load_into(encoder, tensors, str(directory))
    encoder.eval()
    return encoder


def build_for_weights(config: dict, tensors: Iterable[str], where: str) -> nn.Layer:
    """A fresh encoder of `config` for tensors of these names: Hugging Face's config.json and
    PaddleNLP's mean different things by what they leave out."""
    if not is_hugging_face(tensors):
        return build_encoder(config, where)
    padding = {"pad_token_id": int(config.get("model_type") == "roberta")}
    config = {**HUGGING_FACE_DEFAULTS, **padding, **config}
    encoder = build_encoder(config, where)
    set_norm_epsilon(encoder, float(config["layer_norm_eps"]))  # PaddleNLP's ERNIE ignores it
    return encoder


def build_encoder(config: dict, where: str = "config") -> nn.Layer:
    """An encoder of the sizes in `config` with fresh weights. UserError for what cannot be one."""
    import paddlenlp.transformers as library

    family = family_of(config, where)
    problems = config_problems(config)
    if problems:
        raise UserError("\n".join(f"{where}/config.json: {problem}" for problem in problems))
    model = getattr(library, f"{family}Model")
    known = model.config_class()
    return model(
        model.config_class(**{k: config[k] for k in READ if k in config and hasattr(known, k)})
    )


def set_norm_epsilon(model: nn.Layer, epsilon: float) -> None:
    """Give all layer norms one epsilon; Paddle has no public way to change it."""
    for layer in model.sublayers():
        if isinstance(layer, nn.LayerNorm):
            layer._epsilon = epsilon


def norm_epsilon(model: nn.Layer) -> float:
    """The epsilon of a model's layer norms, which all have the same."""
    return next(layer._epsilon for layer in model.sublayers() if isinstance(layer, nn.LayerNorm))


def is_hugging_face(tensors: Iterable[str]) -> bool:
    """Whether these are Hugging Face's names of an encoder's tensors."""
    return any(re.search(r"encoder\.layer\.\d", name) for name in tensors)


def encoder_tensors(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Only the encoder's tensors, under the names that they have in a PaddleNLP encoder."""
    if is_hugging_face(tensors):
        return dict(filter(None, map(_from_hugging_face, tensors.items())))
    named = {PREFIX.sub("", name): value for name, value in tensors.items()}
    return {n: v for n, v in named.items() if n.split(".")[0] in PARTS}


def zero_pooler(encoder: nn.Layer) -> dict[str, np.ndarray]:
    """Zeros for the pooler of `encoder`, for files that store none."""
    return {
        name: np.zeros(parameter.shape, np.float32)
        for name, parameter in encoder.state_dict().items()
        if name.startswith("pooler.")
    }


def _from_hugging_face(item: tuple[str, np.ndarray]) -> tuple[str, np.ndarray] | None:
    name, value = item
    for pattern, replacement in FROM_HUGGING_FACE:
        name = re.sub(pattern, replacement, name)
    if name.split(".")[0] not in PARTS or "position_ids" in name:
        return None
    is_linear = value.ndim == 2 and not name.startswith("embeddings.")
    return name, np.ascontiguousarray(value.T) if is_linear else value
