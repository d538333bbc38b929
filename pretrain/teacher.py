"""Encoders from directories: PaddleNLP's and Hugging Face's, by what their config.json says."""

import json
import re
from pathlib import Path

import numpy as np
from paddle import nn

from data_pipeline.base.errors import UserError
from pretrain import weights

FAMILIES = ("PPMiniLM", "Roberta", "Bert", "Ernie")

# Hugging Face's name of a tensor, and PaddleNLP's. Linear weights are stored transposed there.
FROM_HUGGING_FACE = (
    (r"^(bert|roberta|ernie)\.", ""),
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


def load_encoder(directory: Path | str) -> nn.Layer:
    """The encoder in a directory (config.json and safetensors), in evaluation mode.

    Hugging Face directories are converted in memory; heads on top of the encoder are left out, and
    a pooler that is not stored is zero (relations never use it). UserError when a part is missing.
    """
    directory = Path(directory)
    config = read_config(directory)
    encoder = build_encoder(config, str(directory))
    tensors = encoder_tensors(weights.read(directory), encoder.base_model_prefix)
    for name, parameter in encoder.state_dict().items():
        if name.startswith("pooler.") and name not in tensors:
            tensors[name] = np.zeros(parameter.shape, np.float32)
    weights.load_into(encoder, tensors, str(directory))
    encoder.eval()
    return encoder


def read_config(directory: Path | str) -> dict:
    """The config.json of an encoder directory; UserError says what to do when there is none."""
    directory = Path(directory)
    if not directory.is_dir():
        raise UserError(how_to_get(str(directory)))
    try:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{directory}: no config.json; {WHAT_A_DIRECTORY_HOLDS}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{directory}/config.json: unreadable: {error}") from None
    if not isinstance(config, dict):
        raise UserError(f"{directory}/config.json: not a mapping")
    return config


WHAT_A_DIRECTORY_HOLDS = "an encoder directory holds config.json, model.safetensors and vocab.txt"


def how_to_get(name: str) -> str:
    """What to type where there is a network, for a model that is not on this disk."""
    known = {
        "roberta-wwm-ext-large": "hfl/chinese-roberta-wwm-ext-large",
        "roberta-wwm-ext": "hfl/chinese-roberta-wwm-ext",
        "bert-base-chinese": "google-bert/bert-base-chinese",
    }
    short = name.rstrip("/").rsplit("/", 1)[-1]
    hub = known.get(short, name if "/" in name else f"ORGANISATION/{name}")
    return (
        f"{name}: no such directory, and nothing is downloaded from here.\n"
        f"  Where there is a network: huggingface-cli download {hub} "
        f"config.json model.safetensors vocab.txt --local-dir {short}\n"
        f"  Copy the directory to this machine and give its path, for example "
        f"--teacher.path models/{short}\n"
        f"  {WHAT_A_DIRECTORY_HOLDS[0].upper()}{WHAT_A_DIRECTORY_HOLDS[1:]}."
    )


def family_of(config: dict, where: str) -> str:
    """`PPMiniLM`, `Roberta`, `Bert` or `Ernie`, from `architectures`, `init_class` or `model_type`.

    RoBERTa-wwm names itself BERT in its config.json, and that is what it is.
    """
    said = [*config.get("architectures", ()), config.get("init_class"), config.get("model_type")]
    for name in filter(None, said):
        for family in FAMILIES:
            if str(name).lower().startswith(family.lower()):
                return family
    raise UserError(
        f"{where}/config.json: architectures {config.get('architectures')} is none of "
        + ", ".join(f"{family}Model" for family in FAMILIES)
    )


def build_encoder(config: dict, where: str = "config") -> nn.Layer:
    """An encoder of the sizes in `config` with fresh weights."""
    import paddlenlp.transformers as library

    model = getattr(library, f"{family_of(config, where)}Model")
    known = model.config_class()
    return model(model.config_class(**{k: v for k, v in config.items() if hasattr(known, k)}))


def encoder_tensors(tensors: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Only the encoder's tensors, under PaddleNLP's names.

    `prefix` is what PaddleNLP puts before them in models with a head ("bert", "ppminilm", ...).
    """
    if any(re.search(r"encoder\.layer\.\d", name) for name in tensors):
        return dict(filter(None, map(_from_hugging_face, tensors.items())))
    found = {name.removeprefix(f"{prefix}."): value for name, value in tensors.items()}
    return {
        n: v for n, v in found.items() if n.split(".")[0] in ("embeddings", "encoder", "pooler")
    }


def _from_hugging_face(item: tuple[str, np.ndarray]) -> tuple[str, np.ndarray] | None:
    name, value = item
    for pattern, replacement in FROM_HUGGING_FACE:
        name = re.sub(pattern, replacement, name)
    if name.split(".")[0] not in ("embeddings", "encoder", "pooler") or "position_ids" in name:
        return None
    is_linear = value.ndim == 2 and not name.startswith("embeddings.")
    return name, np.ascontiguousarray(value.T) if is_linear else value
