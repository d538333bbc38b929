"""A classifier: an encoder, its pooled [CLS] and one linear layer; and its directory on disk.

PP-MiniLM, BERT, ERNIE and RoBERTa encoders of PaddleNLP share one shape (embeddings, a stack of
`nn.TransformerEncoderLayer`, a pooler), so the forward pass is written out once, here, and every
stage (training, distillation, pruning, export) runs this one.

Weights are stored under the names of PaddleNLP's `...ForSequenceClassification`, so stock PaddleNLP
opens an unpruned PP-MiniLM, BERT or ERNIE classifier directory.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import paddle
from paddle import nn

from data_pipeline.base.errors import UserError
from data_pipeline.base.files import write_json
from data_pipeline.text import tokenizer
from finetune.training.files import read_labels, read_result
from finetune.training.heads import CLASSIFIERS, Classifier
from finetune.training.kinds import KINDS, kind_of
from pretrain.encoders import weights
from pretrain.encoders.config import read_config
from pretrain.encoders.load import (
    build_for_weights,
    encoder_tensors,
    is_hugging_face,
    load_encoder,
    norm_epsilon,
    set_norm_epsilon,
    zero_pooler,
)


@dataclass
class LoadedClassifier:
    """A classifier directory, opened."""

    model: Classifier
    labels: list[str]
    tokenizer: Path
    """Directory of the tokenizer's files: the classifier's own."""
    result: dict


def from_encoder(
    directory: Path | str,
    classes: int,
    kind: str = "classification",
    file: str = weights.WEIGHTS,
) -> Classifier:
    """A classifier for a kind of task on a released encoder, its last linear layer fresh.

    file: the encoder's weights, see `pretrain.encoders.weights.read`.

    So is a pooler that was not stored (pre-training by relations has no use for one): at 0 it would
    pass nothing on. UserError for ELECTRA.
    """
    encoder = load_encoder(directory, file)
    if not hasattr(encoder, "pooler"):
        raise UserError(
            f"{directory}: {type(encoder).__name__} has no pooler, so no classifier is made from "
            "it here; it can be the teacher of a distillation"
        )
    model = CLASSIFIERS[kind](encoder, classes)
    pooler = model.encoder.pooler.dense.weight
    if not bool(pooler.any()):
        pooler.set_value(paddle.normal(0.0, model.encoder.config.initializer_range, pooler.shape))
    return model


def save(
    model: Classifier, directory: Path, labels: list[str], tokenizer_dir: Path, result: dict
) -> None:
    """Write `directory`: config.json, model.safetensors, vocab.txt, tokenizer_config.json,
    labels.json, result.json. The tokenizer is that of the model directory `tokenizer_dir`."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    config = json.loads(model.encoder.config.to_json_string())
    prefix = model.encoder.base_model_prefix
    family = type(model.encoder).__name__.removesuffix("Model")
    config["architectures"] = [f"{family}{model.architecture}"]
    config["problem_type"] = KINDS[model.kind].problem_type
    config["num_labels"] = len(labels)
    config["id2label"] = {str(index): label for index, label in enumerate(labels)}
    config["label2id"] = {label: index for index, label in enumerate(labels)}
    config["layer_norm_eps"] = norm_epsilon(model)  # of the layers: ERNIE's config is not followed
    config["kept_heads"] = [layer.self_attn.num_heads for layer in model.layers]
    config["kept_ffn"] = [layer.linear1.weight.shape[1] for layer in model.layers]
    weights.write(
        directory / "model.safetensors",
        {_stored_name(name, prefix): value for name, value in model.state_dict().items()},
    )
    tokenizer.copy(tokenizer_dir, directory, f"{family}Tokenizer")
    write_json(directory / "labels.json", labels)
    write_json(directory / "result.json", result)
    write_json(directory / "config.json", config)


def load(directory: Path | str) -> LoadedClassifier:
    """Open a classifier directory, pruned or not, or one of transformers
    (`BertForSequenceClassification`); UserError when it is none or is damaged."""
    directory = Path(directory)
    config = read_config(directory)
    kind = kind_of(config)
    labels = read_labels(directory, KINDS[kind].least_labels)
    tensors = weights.read(directory)
    encoder = build_for_weights(config, tensors, str(directory))
    model = CLASSIFIERS[kind](encoder, len(labels))
    if "layer_norm_eps" in config:
        set_norm_epsilon(model, float(config["layer_norm_eps"]))
    resize(model, *(_kept(config, name, model, directory) for name in ("kept_heads", "kept_ffn")))
    if is_hugging_face(tensors):
        tensors = _from_hugging_face(tensors, encoder)
    else:
        prefix = encoder.base_model_prefix
        tensors = {_own_name(name, prefix): value for name, value in tensors.items()}
    weights.load_into(model, tensors, str(directory))
    return LoadedClassifier(model, labels, directory, read_result(directory))


def _kept(config: dict, name: str, model: Classifier, directory: Path) -> list[int] | None:
    """Heads or neurons of each layer of a pruned classifier; None where nothing was pruned."""
    kept, layers = config.get(name), len(model.layers)
    if kept is None:
        return None
    whole = isinstance(kept, list) and all(type(count) is int and count > 0 for count in kept)
    if not whole or len(kept) != layers:
        raise UserError(
            f"{directory}/config.json: {name} is not a list of {layers} whole numbers of 1 or more"
        )
    return kept


def resize(model: Classifier, heads: list[int] | None, ffn: list[int] | None) -> None:
    """Give each layer `heads[i]` attention heads and `ffn[i]` feed-forward neurons, values fresh.

    The size of a head stays: a layer that keeps 9 of 12 heads of 64 projects to 576.
    """
    hidden = model.encoder.config.hidden_size
    for index, layer in enumerate(model.layers):
        attention = layer.self_attn
        if heads and heads[index] != attention.num_heads:
            inner = heads[index] * attention.head_dim
            attention.num_heads = heads[index]
            for name in ("q_proj", "k_proj", "v_proj"):
                setattr(attention, name, nn.Linear(hidden, inner))
            attention.out_proj = nn.Linear(inner, hidden)
        if ffn and ffn[index] != layer.linear1.weight.shape[1]:
            layer.linear1 = nn.Linear(hidden, ffn[index])
            layer.linear2 = nn.Linear(ffn[index], hidden)


def _from_hugging_face(tensors: dict[str, np.ndarray], encoder: nn.Layer) -> dict[str, np.ndarray]:
    """The tensors of a classifier of transformers under the names of `Classifier`."""
    stored = zero_pooler(encoder) | encoder_tensors(tensors)
    named = {f"encoder.{name}": value for name, value in stored.items()}
    for name in ("classifier.weight", "classifier.bias"):
        if name in tensors:
            named[name] = np.ascontiguousarray(tensors[name].T)
    return named


def _stored_name(name: str, prefix: str) -> str:
    return name.replace("encoder.", f"{prefix}.", 1) if name.startswith("encoder.") else name


def _own_name(name: str, prefix: str) -> str:
    return name.replace(f"{prefix}.", "encoder.", 1) if name.startswith(f"{prefix}.") else name
