"""Encoders and classifiers as directories that transformers and sentence-transformers open.

PP-MiniLM, BERT and ERNIE of PaddleNLP are BERT as Hugging Face has it, under other names: linear
weights are [out, in] there and [in, out] here. The student's ReLU is `hidden_act: relu`.
"""

import re
from pathlib import Path

import numpy as np
import paddle
from paddle import nn

from data_pipeline.base.errors import UserError
from data_pipeline.base.files import write_json
from data_pipeline.text import tokenizer
from data_pipeline.text.vocab import SPECIAL
from pretrain.encoders import weights
from pretrain.release.tokenizer_json import write_tokenizer_json

MODELS = {"PPMiniLM": "Bert", "Bert": "Bert", "Ernie": "Ernie"}  # family here, and there

# PaddleNLP's name of an encoder's tensor, and Hugging Face's.
TO_HUGGING_FACE = (
    (r"^embeddings\.layer_norm\.", "embeddings.LayerNorm."),
    (r"^encoder\.layers\.(\d+)\.", r"encoder.layer.\1."),
    (r"\.self_attn\.q_proj\.", ".attention.self.query."),
    (r"\.self_attn\.k_proj\.", ".attention.self.key."),
    (r"\.self_attn\.v_proj\.", ".attention.self.value."),
    (r"\.self_attn\.out_proj\.", ".attention.output.dense."),
    (r"\.norm1\.", ".attention.output.LayerNorm."),
    (r"\.linear1\.", ".intermediate.dense."),
    (r"\.linear2\.", ".output.dense."),
    (r"\.norm2\.", ".output.LayerNorm."),
)
SAME = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"),
    *("intermediate_size", "hidden_act", "hidden_dropout_prob", "attention_probs_dropout_prob"),
    *("max_position_embeddings", "type_vocab_size", "initializer_range", "pad_token_id"),
)
ERNIE_ONLY = ("use_task_id", "task_type_vocab_size")
WORDS = "embeddings.word_embeddings.weight"
POOLING = "1_Pooling"


def write_hugging_face(
    encoder: nn.Layer, directory: Path, tokens: list[str], lower_case: bool, max_length: int
) -> list[str]:
    """Write an encoder for `transformers.AutoModel` and for sentence-transformers.

    max_length: tokens to which a text is cut. sentence-transformers gets mean pooling, as usual for
    encoders without a task. Returns the names of the files; the weights are written last.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    files = write_tokenizer(directory, tokens, lower_case, max_length)
    write_json(directory / "config.json", hugging_face_config(encoder, "Model"))
    files += ["config.json", *write_sentence_transformers(encoder, directory, max_length)]
    weights.write(directory / weights.WEIGHTS, hugging_face_tensors(encoder), form="pt")
    return [*files, weights.WEIGHTS]


def write_hugging_face_classifier(
    encoder: nn.Layer,
    head: nn.Linear,
    directory: Path,
    architecture: str,
    labels: list[str],
    tokenizer_dir: Path,
    max_length: int,
    problem_type: str | None = None,
) -> None:
    """Write an encoder with a linear head for `transformers.AutoModelFor...`.

    architecture: `ForSequenceClassification` or `ForTokenClassification`; labels: names of the
    head's outputs; problem_type: `single_label_classification`, `regression`, ..., of which
    transformers takes its loss. Token classification has no pooler there. UserError as from
    `hugging_face_config`.
    """
    config = hugging_face_config(encoder, architecture)
    config |= {
        "id2label": {str(index): label for index, label in enumerate(labels)},
        "label2id": {label: index for index, label in enumerate(labels)},
    }
    if problem_type is not None:
        config["problem_type"] = problem_type
    prefix = config["model_type"]
    tensors = {f"{prefix}.{n}": value for n, value in hugging_face_tensors(encoder).items()}
    if architecture == "ForTokenClassification":
        tensors = {n: v for n, v in tensors.items() if not n.startswith(f"{prefix}.pooler.")}
    tensors["classifier.weight"] = head.weight.numpy().T
    tensors["classifier.bias"] = head.bias.numpy()
    write_tokenizer(directory, *tokenizer.read(tokenizer_dir), max_length)
    write_json(directory / "config.json", config)
    weights.write(directory / weights.WEIGHTS, tensors, form="pt")


def hugging_face_config(encoder: nn.Layer, architecture: str) -> dict:
    """The config.json of an encoder there; `architecture` such as `Model` is put after its family.

    UserError for what BERT as transformers has it cannot express.
    """
    family = type(encoder).__name__.removesuffix("Model")
    config = encoder.config
    if family not in MODELS:
        raise UserError(
            f"{family} encoders cannot be written for transformers, only {', '.join(MODELS)}"
        )
    if getattr(config, "pool_act", "tanh") != "tanh":
        raise UserError(f"pool_act {config.pool_act!r}: BERT of transformers has tanh only")
    for number, layer in enumerate(encoder.encoder.layers, 1):
        attention = layer.self_attn
        inner = layer.linear1.weight.shape[1]
        if (attention.num_heads, inner) != (config.num_attention_heads, config.intermediate_size):
            raise UserError(
                f"layer {number} has {attention.num_heads} heads and {inner} feed-forward neurons, "
                f"the encoder's config {config.num_attention_heads} and "
                f"{config.intermediate_size}: transformers cannot express a pruned encoder; export "
                "it to ONNX"
            )
    names = SAME + ERNIE_ONLY if family == "Ernie" else SAME
    return {
        "architectures": [f"{MODELS[family]}{architecture}"],
        "model_type": MODELS[family].lower(),
        **{name: getattr(config, name) for name in names},
        "layer_norm_eps": layer_norm_epsilon(encoder),
        "position_embedding_type": "absolute",
        "torch_dtype": "float32",
    }


def layer_norm_epsilon(encoder: nn.Layer) -> float:
    """The epsilon of every layer norm; UserError when they differ.

    PaddleNLP's configurations do not always say what their layers use.
    """
    norms = [layer for layer in encoder.sublayers() if isinstance(layer, nn.LayerNorm)]
    values = {float(norm._epsilon) for norm in norms}  # Paddle has no public name for it
    if len(values) != 1:
        raise UserError(f"layer norms with different epsilons: {sorted(values)}")
    return values.pop()


def hugging_face_tensors(encoder: nn.Layer) -> dict[str, np.ndarray]:
    """The encoder's weights under Hugging Face's names, linear ones as [out, in]."""
    tensors = {}
    for own_name, parameter in encoder.state_dict().items():
        value, name = parameter.astype("float32").numpy(), own_name
        for pattern, replacement in TO_HUGGING_FACE:
            name = re.sub(pattern, replacement, name)
        is_linear = value.ndim == 2 and not name.startswith("embeddings.")
        tensors[name] = np.ascontiguousarray(value.T) if is_linear else value
    # PP-MiniLM looks the padding token up as zeros, whatever its row holds.
    padding = encoder.config.pad_token_id
    row = encoder.embeddings.word_embeddings(paddle.to_tensor([padding]))
    tensors[WORDS][padding] = row.astype("float32").numpy()[0]
    return tensors


def write_tokenizer(
    directory: Path, tokens: list[str], lower_case: bool, max_length: int
) -> list[str]:
    """vocab.txt, tokenizer.json and tokenizer_config.json; their names."""
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.write(directory, tokens, lower_case)
    write_tokenizer_json(directory / tokenizer.TOKENIZER, tokens, lower_case)
    config = {
        "do_lower_case": lower_case,
        # transformers' own BertTokenizer splits at fewer symbols: see `tokenizer_json`.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_length,
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        **{f"{name}_token": token for name, token in SPECIAL.items()},
    }
    write_json(directory / tokenizer.CONFIG, config)
    return [tokenizer.VOCABULARY, tokenizer.TOKENIZER, tokenizer.CONFIG]


def write_sentence_transformers(encoder: nn.Layer, directory: Path, max_length: int) -> list[str]:
    """What sentence-transformers needs besides the weights: mean pooling; returns the names."""
    library = "sentence_transformers.models"
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": f"{library}.Transformer"},
        {"idx": 1, "name": "1", "path": POOLING, "type": f"{library}.Pooling"},
    ]
    pooling = {
        "word_embedding_dimension": encoder.config.hidden_size,
        "pooling_mode_cls_token": False,
        "pooling_mode_mean_tokens": True,
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
    }
    (directory / POOLING).mkdir(exist_ok=True)
    files = {
        "modules.json": modules,
        "sentence_bert_config.json": {"max_seq_length": max_length, "do_lower_case": False},
        f"{POOLING}/config.json": pooling,
    }
    for name, value in files.items():
        write_json(directory / name, value)
    return list(files)
