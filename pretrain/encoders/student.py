"""The student: a PPMiniLM encoder, from scratch or from layers of the teacher."""

from dataclasses import dataclass

import paddle
from paddle import Tensor, nn

from data_pipeline.base.errors import UserError
from data_pipeline.shards.format import Manifest
from pretrain.encoders.config import first_position
from pretrain.encoders.load import build_encoder
from pretrain.encoders.settings import EncoderSizes, Student


@dataclass(frozen=True)
class Vocabulary:
    """The part of a vocabulary that an encoder needs."""

    vocab_size: int
    special_ids: dict[str, int]
    """Of pad, unk, cls, sep and mask."""


def encoder_config(architecture: str, sizes: EncoderSizes, manifest: Manifest | Vocabulary) -> dict:
    """The config.json of an encoder of these sizes over the shards' vocabulary."""
    return {
        "architectures": [architecture],
        **{name: getattr(sizes, name) for name in EncoderSizes.model_fields},
        "vocab_size": manifest.vocab_size,
        "pad_token_id": manifest.special_ids["pad"],
        "type_vocab_size": 2,
    }


def build_student(
    sizes: Student,
    manifest: Manifest | Vocabulary,
    teacher: nn.Layer | None = None,
    with_hidden: bool = False,
) -> nn.Layer:
    """A PPMiniLM encoder with fresh weights, drawn from Paddle's generator, or with some copied
    from `teacher`.

    With the relation H all of the chosen layer is trained, and the pooler alone would stay random;
    so it is set to the identity, which gives the tanh of the state of [CLS].
    """
    student = build_encoder(encoder_config("PPMiniLMModel", sizes, manifest))
    if sizes.from_teacher_layers:
        copy_layers(student, teacher, sizes.from_teacher_layers)
    if with_hidden:
        dense = student.pooler.dense
        dense.weight.set_value(paddle.eye(sizes.hidden_size))
        dense.bias.set_value(paddle.zeros([sizes.hidden_size]))
    return student


def copy_layers(student: nn.Layer, teacher: nn.Layer, layers: tuple[int, ...]) -> None:
    """Copy the embeddings and the named teacher layers (from 1) into the student's, in order.

    The student's first hidden states are then the teacher's own. UserError when sizes differ:
    copying needs the same width, heads and feed-forward, and a vocabulary and positions no larger.
    """
    source = teacher.embeddings
    family = type(teacher).__name__.removesuffix("Model")
    first = first_position(family, teacher.config.pad_token_id)
    types = source.token_type_embeddings.weight
    types = paddle.concat([types, types[:1]])[:2]  # RoBERTa has one, and it is used for all
    if hasattr(source, "task_type_embeddings"):  # ERNIE adds that of one task to every token
        types = types + source.task_type_embeddings.weight[teacher.config.task_id]
    for name, rows in (
        ("word_embeddings", source.word_embeddings.weight),
        ("position_embeddings", source.position_embeddings.weight[first:]),
        ("token_type_embeddings", types),
    ):
        table = getattr(student.embeddings, name).weight
        _set(table, rows[: table.shape[0]], f"embeddings.{name}.weight")
    pairs = [(student.embeddings.layer_norm, source.layer_norm)]
    pairs += [
        (student.encoder.layers[index], teacher.encoder.layers[number - 1])
        for index, number in enumerate(layers)
    ]
    heads = [encoder.config.num_attention_heads for encoder in (teacher, student)]
    if heads[0] != heads[1]:
        raise UserError(
            f"student.from_teacher_layers: the teacher has {heads[0]} attention heads, the student "
            f"{heads[1]}; copying needs equal numbers"
        )
    for copy, original in pairs:
        values = original.state_dict()
        for name, parameter in copy.state_dict().items():
            _set(parameter, values[name], name)


def _set(parameter: Tensor, value: Tensor, name: str) -> None:
    if list(value.shape) != list(parameter.shape):
        raise UserError(
            f"student.from_teacher_layers: {name} is {list(value.shape)} in the teacher and "
            f"{list(parameter.shape)} in the student; copying needs equal sizes"
        )
    parameter.set_value(value)


def freeze_unreached(student: nn.Layer, layer: int, with_hidden: bool) -> list[str]:
    """Freeze what relations of layer number `layer` send no gradient to; return the names.

    That is everything above the layer, the pooler, and, without the relation H, all of the layer
    itself that comes after its Q, K and V projections. It keeps its initial values, and costs no
    optimiser state.
    """
    reached = {f"encoder.layers.{index}." for index in range(layer if with_hidden else layer - 1)}
    reached |= {f"encoder.layers.{layer - 1}.self_attn.{x}_proj." for x in "qkv"}
    if student.encoder.layers[layer - 1].normalize_before:
        reached.add(f"encoder.layers.{layer - 1}.norm1.")
    reached.add("embeddings.")
    frozen = []
    for name, parameter in student.named_parameters():
        if not name.startswith(tuple(reached)):
            parameter.stop_gradient = True
            frozen.append(name)
    return frozen


def parameters(layer: nn.Layer) -> int:
    """Number of weights."""
    return sum(int(parameter.size) for parameter in layer.parameters())


def seed_everything(seed: int) -> None:
    """Seed Paddle's generator, from which fresh weights and dropout are drawn."""
    paddle.seed(seed)
