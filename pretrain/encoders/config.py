"""The config.json of an encoder directory. Nothing here imports Paddle, so checks are quick."""

import json
import os
import re
from pathlib import Path

from data_pipeline.base.errors import UserError

FAMILIES = ("PPMiniLM", "Roberta", "Bert", "Ernie", "Electra")
# "BertModel", "BertForMaskedLM", "bert"; not "BertJapaneseModel", "ErnieMModel" or "bert_japanese".
FAMILY = re.compile(
    rf"(?i:({'|'.join(FAMILIES)}))(Model|LMHeadModel|Discriminator|Generator|For[A-Z]\w*)?"
)
DEBERTA = (
    "DeBERTa cannot be a teacher here: its attention adds scores between content and relative "
    "positions in every layer, which the layers that are run here (BERT's) do not compute"
)

WHAT_A_DIRECTORY_HOLDS = "an encoder directory holds config.json, model.safetensors and vocab.txt"
ON_HUGGING_FACE = {
    "roberta-wwm-ext-large": "hfl/chinese-roberta-wwm-ext-large",
    "roberta-wwm-ext": "hfl/chinese-roberta-wwm-ext",
    "bert-base-chinese": "google-bert/bert-base-chinese",
    "chinese-macbert-base": "hfl/chinese-macbert-base",
    "chinese-macbert-large": "hfl/chinese-macbert-large",
    "chinese-electra-180g-base-discriminator": "hfl/chinese-electra-180g-base-discriminator",
    "chinese-electra-180g-large-discriminator": "hfl/chinese-electra-180g-large-discriminator",
}
IN_PADDLENLP = {
    "roberta-wwm-ext-large": "hfl/roberta-wwm-ext-large",
    "chinese-roberta-wwm-ext-large": "hfl/roberta-wwm-ext-large",
    "roberta-wwm-ext": "hfl/roberta-wwm-ext",
    "chinese-roberta-wwm-ext": "hfl/roberta-wwm-ext",
}

SIZES = (
    *("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size"),
    *("vocab_size", "max_position_embeddings", "type_vocab_size", "task_type_vocab_size"),
    "embedding_size",
)
LARGEST = {"num_hidden_layers": 1000}  # of a size; of others:
LARGEST_SIZE = 2**24
NUMBERS = (
    *("hidden_dropout_prob", "attention_probs_dropout_prob"),
    *("initializer_range", "layer_norm_eps"),
)
MUST_BE = {"hidden_act": ("gelu", "relu"), "position_embedding_type": ("absolute",)}
# The rest of a config.json is about heads or ways to run the model, and may be anything.
READ = (
    *(*SIZES, *NUMBERS, "hidden_act", "architectures"),
    *("pad_token_id", "cls_token_id", "use_task_id", "task_id", "pool_act"),
)
# Hugging Face leaves default values out of a config.json; PaddleNLP's defaults differ.
HUGGING_FACE_DEFAULTS = {
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
    "embedding_size": 128,  # ELECTRA alone has one
}
# Default values of both libraries.
DEFAULT_SIZES = {
    "num_hidden_layers": 12,
    "hidden_size": 768,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
}


def locate(name: Path | str) -> Path:
    """The directory of that name, or of the model of that name in PaddleNLP's cache."""
    home = Path(os.environ.get("PPNLP_HOME") or Path.home() / ".paddlenlp")
    cached = home / "models" / name
    return cached if not is_directory(Path(name)) and is_directory(cached) else Path(name)


def is_directory(path: Path) -> bool:
    """`Path.is_dir`, and False for what cannot be a name of a file at all."""
    try:
        return path.is_dir()
    except OSError:
        return False


def read_config(directory: Path | str) -> dict:
    """The config.json of an encoder directory; a UserError tells how to get a missing one."""
    directory = locate(directory)
    if not is_directory(directory):
        raise UserError(how_to_get(str(directory)))
    try:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{directory}: no config.json; {WHAT_A_DIRECTORY_HOLDS}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{directory}/config.json: unreadable: {error}") from None
    if not isinstance(config, dict):
        raise UserError(f"{directory}/config.json: not a mapping")
    return {name: value for name, value in config.items() if value is not None}


def how_to_get(name: str) -> str:
    """What to type where there is a network, for a model that is not on this disk."""
    short = name.rstrip("/").rsplit("/", 1)[-1]
    is_hub_name = re.fullmatch(r"(?!models/)[\w-]+/[\w.-]+", name)
    hub = ON_HUGGING_FACE.get(short, name if is_hub_name else f"ORGANISATION/{short}")
    paddle = IN_PADDLENLP.get(short, name if is_hub_name else short)
    return (
        f"{name}: no such directory, and nothing is downloaded from here.\n"
        f"  Where there is a network, from Hugging Face: huggingface-cli download {hub} "
        f"config.json model.safetensors vocab.txt --local-dir models/{short}\n"
        '  or from PaddleNLP: python -c "from paddlenlp.transformers import AutoModel, '
        f"AutoTokenizer; n, d = '{paddle}', 'models/{short}'; "
        "AutoModel.from_pretrained(n).save_pretrained(d, safe_serialization=True); "
        'AutoTokenizer.from_pretrained(n).save_pretrained(d)"\n'
        f"  Copy the directory to this machine and give its path, for example "
        f"--teacher.path models/{short}\n"
        f"  {WHAT_A_DIRECTORY_HOLDS[0].upper()}{WHAT_A_DIRECTORY_HOLDS[1:]}."
    )


def family_of(config: dict, where: str) -> str:
    """An entry of FAMILIES, from `architectures`, `init_class` or `model_type`.

    RoBERTa-wwm names itself BERT in its Hugging Face config.json, and that is what it is. So it is
    under PaddleNLP's name too: PaddleNLP 2.8's RobertaModel counts positions from the padding id
    + 1, as fairseq's RoBERTa does, but RoBERTa-wwm was trained with positions from 0.
    """
    architectures = config.get("architectures")
    names = [*architectures] if isinstance(architectures, list) else [architectures]
    for name in (*names, config.get("init_class"), config.get("model_type")):
        match = FAMILY.fullmatch(name) if isinstance(name, str) else None
        if match:
            family = next(known for known in FAMILIES if known.lower() == match[1].lower())
            is_wwm = family == "Roberta" and config.get("pad_token_id", 0) == 0
            return "Bert" if is_wwm else family
        if isinstance(name, str) and name.lower().startswith("deberta"):
            raise UserError(f"{where}/config.json: {name}: {DEBERTA}")
    raise UserError(
        f"{where}/config.json: architectures {config.get('architectures')} is none of "
        + ", ".join(f"{family}Model" for family in FAMILIES)
    )


def first_position(family: str, pad_token_id: int) -> int:
    """Row of the position table that the first token uses: fairseq's RoBERTa, which is PaddleNLP's
    RobertaModel, counts positions from after the padding id; the others from 0."""
    return pad_token_id + 1 if family == "Roberta" else 0


def config_problems(config: dict) -> list[str]:
    """Values of a config.json that these encoders do not support, each with the valid ones."""
    problems = []
    for name in SIZES:
        value = config.get(name, 1)
        largest = LARGEST.get(name, LARGEST_SIZE)
        if not is_whole(value) or not 1 <= value <= largest:
            problems.append(f"{name} {value!r} is not a whole number from 1 to {largest}")
    if problems:
        return problems
    sizes = DEFAULT_SIZES | config
    if sizes["hidden_size"] % sizes["num_attention_heads"]:
        problems.append(
            f"hidden_size {sizes['hidden_size']} is not a multiple of "
            f"num_attention_heads {sizes['num_attention_heads']}"
        )
    for name in NUMBERS:
        value = config.get(name, 0)
        if not isinstance(value, int | float) or not 0 <= value < 1:
            problems.append(f"{name} {value!r} is not a number from 0 to less than 1")
    for name, end in (("pad_token_id", "vocab_size"), ("task_id", "task_type_vocab_size")):
        value = config.get(name, 0)
        if not is_whole(value) or value < 0 or value >= config.get(end, value + 1):
            problems.append(f"{name} {value!r} is not a number from 0 to less than {end}")
    for name, valid in MUST_BE.items():
        if config.get(name, valid[0]) not in valid:
            problems.append(f"{name} {config[name]!r} is not among {', '.join(map(repr, valid))}")
    return problems


def is_whole(value: object) -> bool:
    """Whether a value of a config.json is a whole number; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)
