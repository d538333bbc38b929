"""Encoders from directories: PaddleNLP's and Hugging Face's, by what their config.json says."""

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from paddle import nn

from data_pipeline.base.errors import UserError
from pretrain import weights

FAMILIES = ("PPMiniLM", "Roberta", "Bert", "Ernie")
# "BertModel", "BertForMaskedLM", "bert"; not "BertJapaneseModel", "ErnieMModel" or "bert_japanese".
FAMILY = re.compile(rf"(?i:({'|'.join(FAMILIES)}))(Model|LMHeadModel|For[A-Z]\w*)?")

WHAT_A_DIRECTORY_HOLDS = "an encoder directory holds config.json, model.safetensors and vocab.txt"
ON_HUGGING_FACE = {
    "roberta-wwm-ext-large": "hfl/chinese-roberta-wwm-ext-large",
    "roberta-wwm-ext": "hfl/chinese-roberta-wwm-ext",
    "bert-base-chinese": "google-bert/bert-base-chinese",
}

SIZES = (
    *("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size"),
    *("vocab_size", "max_position_embeddings", "type_vocab_size", "task_type_vocab_size"),
)
NUMBERS = (
    *("hidden_dropout_prob", "attention_probs_dropout_prob"),
    *("initializer_range", "layer_norm_eps"),
)
MUST_BE = {"hidden_act": ("gelu", "relu"), "position_embedding_type": ("absolute", None)}
# The rest of a config.json is about heads or ways to run the model, and may be anything.
READ = (
    *(*SIZES, *NUMBERS, "hidden_act", "architectures"),
    *("pad_token_id", "cls_token_id", "use_task_id", "task_id", "pool_act"),
)
# Hugging Face leaves out of a config.json what it takes for granted; PaddleNLP's defaults differ.
HUGGING_FACE_DEFAULTS = {"type_vocab_size": 2, "layer_norm_eps": 1e-12, "hidden_act": "gelu"}

PREFIX = re.compile(rf"^({'|'.join(FAMILIES).lower()})\.")  # of the encoder in models with a head
PARTS = ("embeddings", "encoder", "pooler")

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
    if is_hugging_face(tensors):
        padding = {"pad_token_id": int(config.get("model_type") == "roberta")}
        config = {**HUGGING_FACE_DEFAULTS, **padding, **config}
    encoder = build_encoder(config, str(directory))
    if is_hugging_face(tensors):  # PaddleNLP's ERNIE takes 1e-12 whatever its configuration says
        for layer in encoder.sublayers():
            if isinstance(layer, nn.LayerNorm):
                layer._epsilon = float(config["layer_norm_eps"])
    tensors = encoder_tensors(tensors)
    for name, parameter in encoder.state_dict().items():
        if name.startswith("pooler.") and name not in tensors:
            tensors[name] = np.zeros(parameter.shape, np.float32)
    weights.load_into(encoder, tensors, str(directory))
    encoder.eval()
    return encoder


def locate(name: Path | str) -> Path:
    """The directory of that name, or where PaddleNLP keeps the model of that name."""
    home = Path(os.environ.get("PPNLP_HOME") or Path.home() / ".paddlenlp")
    kept = home / "models" / name
    return kept if not Path(name).is_dir() and kept.is_dir() else Path(name)


def read_config(directory: Path | str) -> dict:
    """The config.json of an encoder directory; UserError says what to do when there is none."""
    directory = locate(directory)
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


def how_to_get(name: str) -> str:
    """What to type where there is a network, for a model that is not on this disk."""
    short = name.rstrip("/").rsplit("/", 1)[-1]
    hub = ON_HUGGING_FACE.get(short, name if "/" in name else f"ORGANISATION/{name}")
    return (
        f"{name}: no such directory, and nothing is downloaded from here.\n"
        f"  Where there is a network, from Hugging Face: huggingface-cli download {hub} "
        f"config.json model.safetensors vocab.txt --local-dir models/{short}\n"
        '  or from PaddleNLP: python -c "from paddlenlp.transformers import AutoModel, '
        f"AutoTokenizer; n, d = '{name}', 'models/{short}'; "
        "AutoModel.from_pretrained(n).save_pretrained(d, safe_serialization=True); "
        'AutoTokenizer.from_pretrained(n).save_pretrained(d)"\n'
        f"  Copy the directory to this machine and give its path, for example "
        f"--teacher.path models/{short}\n"
        f"  {WHAT_A_DIRECTORY_HOLDS[0].upper()}{WHAT_A_DIRECTORY_HOLDS[1:]}."
    )


def family_of(config: dict, where: str) -> str:
    """`PPMiniLM`, `Roberta`, `Bert` or `Ernie`, from `architectures`, `init_class` or `model_type`.

    RoBERTa-wwm names itself BERT in its Hugging Face config.json, and that is what it is. So it is
    under PaddleNLP's name too: PaddleNLP 2.8's RobertaModel counts positions from the padding id
    + 1, as fairseq's RoBERTa does, but RoBERTa-wwm was trained with positions from 0.
    """
    said = config.get("architectures")
    said = [*said] if isinstance(said, list) else [said]
    for name in (*said, config.get("init_class"), config.get("model_type")):
        found = FAMILY.fullmatch(name) if isinstance(name, str) else None
        if found:
            family = next(known for known in FAMILIES if known.lower() == found[1].lower())
            is_wwm = family == "Roberta" and config.get("pad_token_id", 0) == 0
            return "Bert" if is_wwm else family
    raise UserError(
        f"{where}/config.json: architectures {config.get('architectures')} is none of "
        + ", ".join(f"{family}Model" for family in FAMILIES)
    )


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


def config_problems(config: dict) -> list[str]:
    """What a config.json asks for that these encoders do not do, each with what would be valid."""
    found = []
    for name in SIZES:
        value = config.get(name, 1)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            found.append(f"{name} {value!r} is not a whole number of 1 or more")
    if found:
        return found
    if config.get("hidden_size", 768) % config.get("num_attention_heads", 12):
        found.append(
            f"hidden_size {config.get('hidden_size', 768)} is not a multiple of "
            f"num_attention_heads {config.get('num_attention_heads', 12)}"
        )
    for name in NUMBERS:
        value = config.get(name, 0)
        if not isinstance(value, int | float) or not 0 <= value < 1:
            found.append(f"{name} {value!r} is not a number from 0 to less than 1")
    for name, end in (("pad_token_id", "vocab_size"), ("task_id", "task_type_vocab_size")):
        value = config.get(name, 0)
        if not isinstance(value, int) or value < 0 or value >= config.get(end, value + 1):
            found.append(f"{name} {value!r} is not a number from 0 to less than {end}")
    for name, valid in MUST_BE.items():
        if config.get(name, valid[0]) not in valid:
            found.append(f"{name} {config[name]!r} is not among {', '.join(map(repr, valid))}")
    return found


def is_hugging_face(tensors: Iterable[str]) -> bool:
    """Whether these are Hugging Face's names of an encoder's tensors."""
    return any(re.search(r"encoder\.layer\.\d", name) for name in tensors)


def encoder_tensors(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Only the encoder's tensors, under the names that they have in a PaddleNLP encoder."""
    if is_hugging_face(tensors):
        return dict(filter(None, map(_from_hugging_face, tensors.items())))
    found = {PREFIX.sub("", name): value for name, value in tensors.items()}
    return {n: v for n, v in found.items() if n.split(".")[0] in PARTS}


def _from_hugging_face(item: tuple[str, np.ndarray]) -> tuple[str, np.ndarray] | None:
    name, value = item
    for pattern, replacement in FROM_HUGGING_FACE:
        name = re.sub(pattern, replacement, name)
    if name.split(".")[0] not in PARTS or "position_ids" in name:
        return None
    is_linear = value.ndim == 2 and not name.startswith("embeddings.")
    return name, np.ascontiguousarray(value.T) if is_linear else value
