"""Encoder directories as others write them, and what their encoders compute, in numpy alone."""

import json
import math
from pathlib import Path

import numpy as np

VOCAB_SIZE, WIDTH, HEADS, FFN, LAYERS = 40, 12, 2, 24, 3
CONFIG = {  # hfl/chinese-roberta-wwm-ext-large's, at another size
    "architectures": ["BertForMaskedLM"],
    "attention_probs_dropout_prob": 0.1,
    "bos_token_id": 0,
    "directionality": "bidi",
    "eos_token_id": 2,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": WIDTH,
    "initializer_range": 0.02,
    "intermediate_size": FFN,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 20,
    "model_type": "bert",
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "output_past": True,
    "pad_token_id": 0,
    "pooler_fc_size": 768,
    "pooler_type": "first_token_transform",
    "type_vocab_size": 2,
    "vocab_size": VOCAB_SIZE,
}


def hugging_face_tensors(prefix="bert.", seed=0, task_types=0, scale=0.3) -> dict[str, np.ndarray]:
    """Random tensors of a BertForMaskedLM under Hugging Face's names, linear weights [out, in]."""
    random = np.random.default_rng(seed)
    shapes = {
        "embeddings.word_embeddings.weight": [VOCAB_SIZE, WIDTH],
        "embeddings.position_embeddings.weight": [20, WIDTH],
        "embeddings.token_type_embeddings.weight": [2, WIDTH],
        "embeddings.LayerNorm.weight": [WIDTH],
        "embeddings.LayerNorm.bias": [WIDTH],
        "pooler.dense.weight": [WIDTH, WIDTH],
        "pooler.dense.bias": [WIDTH],
    }
    if task_types:
        shapes["embeddings.task_type_embeddings.weight"] = [task_types, WIDTH]
    for index in range(LAYERS):
        products = {
            "attention.self.query": [WIDTH, WIDTH],
            "attention.self.key": [WIDTH, WIDTH],
            "attention.self.value": [WIDTH, WIDTH],
            "attention.output.dense": [WIDTH, WIDTH],
            "intermediate.dense": [FFN, WIDTH],
            "output.dense": [WIDTH, FFN],
        }
        for name, shape in products.items():
            shapes[f"encoder.layer.{index}.{name}.weight"] = shape
            shapes[f"encoder.layer.{index}.{name}.bias"] = shape[:1]
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes[f"encoder.layer.{index}.{name}.weight"] = [WIDTH]
            shapes[f"encoder.layer.{index}.{name}.bias"] = [WIDTH]
    tensors = {
        f"{prefix}{name}": random.normal(0, scale, shape).astype(np.float32)
        for name, shape in shapes.items()
    }
    tensors[f"{prefix}embeddings.position_ids"] = np.arange(20)[None]
    tensors["cls.predictions.bias"] = np.zeros(VOCAB_SIZE, np.float32)
    tensors["cls.predictions.transform.dense.weight"] = np.zeros([WIDTH, WIDTH], np.float32)
    return tensors


def electra_tensors(embedding_size: int) -> dict[str, np.ndarray]:
    """Random tensors of an ELECTRA: narrower embeddings, projected where their width differs."""
    random = np.random.default_rng(1)
    tensors = {
        name: value
        for name, value in hugging_face_tensors("electra.").items()
        if not name.startswith(("electra.pooler.", "cls."))
    }
    for name in [name for name in tensors if ".embeddings." in name and "ids" not in name]:
        shape = [*tensors[name].shape[:-1], embedding_size]
        tensors[name] = random.normal(0, 0.3, shape).astype(np.float32)
    if embedding_size != WIDTH:
        for name, shape in (("weight", [WIDTH, embedding_size]), ("bias", [WIDTH])):
            values = random.normal(0, 0.3, shape).astype(np.float32)
            tensors[f"electra.embeddings_project.{name}"] = values
    return tensors


def write(directory: Path, tensors: dict[str, np.ndarray], **config) -> Path:
    """config.json, vocab.txt and model.safetensors."""
    from safetensors.numpy import save_file

    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(CONFIG | config))
    if tensors:
        save_file(tensors, str(directory / "model.safetensors"), metadata={"format": "pt"})
    return directory


def hidden_states(tensors, input_ids, mask, prefix="bert.", epsilon=1e-12, start=0, task=None):
    """Output of the embeddings and of each layer, [layers + 1, B, L, width], in float64.

    BERT as its paper and Google's code have it: learned positions, counted from `start`, layer norm
    after each sublayer, GELU by the error function, padding taken out of the keys.
    """
    w = {n.removeprefix(prefix): v.astype(np.float64) for n, v in tensors.items()}

    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon)
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def split(x):
        return x.reshape(*x.shape[:2], HEADS, -1).transpose(0, 2, 1, 3)

    batch, length = input_ids.shape
    x = w["embeddings.word_embeddings.weight"][input_ids]
    x = x + w["embeddings.position_embeddings.weight"][start : start + length]
    x = x + w["embeddings.token_type_embeddings.weight"][0]
    if task is not None:
        x = x + w["embeddings.task_type_embeddings.weight"][task]
    x = norm(x, "embeddings.LayerNorm")
    states = [linear(x, "embeddings_project") if "embeddings_project.weight" in w else x]
    for index in range(LAYERS):
        layer, x = f"encoder.layer.{index}", states[-1]
        q, k, v = (
            split(linear(x, f"{layer}.attention.self.{n}")) for n in ("query", "key", "value")
        )
        scores = q @ k.transpose(0, 1, 3, 2) / math.sqrt(WIDTH // HEADS)
        scores = np.where(mask[:, None, None] == 1, scores, -np.inf)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        context = (scores / scores.sum(-1, keepdims=True)) @ v
        context = context.transpose(0, 2, 1, 3).reshape(batch, length, WIDTH)
        context = linear(context, f"{layer}.attention.output.dense")
        x = norm(x + context, f"{layer}.attention.output.LayerNorm")
        inner = linear(x, f"{layer}.intermediate.dense")
        inner = inner * 0.5 * (1 + np.vectorize(math.erf)(inner / math.sqrt(2)))
        states.append(norm(x + linear(inner, f"{layer}.output.dense"), f"{layer}.output.LayerNorm"))
    return np.stack(states)
