"""The student: a PPMiniLM encoder, from scratch or from layers of the teacher."""

import paddle
from paddle import nn

from data_pipeline.base.errors import UserError
from data_pipeline.shards import Manifest
from pretrain.recipe import EncoderSizes, Student
from pretrain.teacher import build_encoder


def encoder_config(architecture: str, sizes: EncoderSizes, manifest: Manifest) -> dict:
    """What a config.json says of an encoder of these sizes over the shards' vocabulary."""
    return {
        "architectures": [architecture],
        **{name: getattr(sizes, name) for name in EncoderSizes.model_fields},
        "vocab_size": manifest.vocab_size,
        "pad_token_id": manifest.special_ids["pad"],
        "type_vocab_size": 2,
    }


def build_student(sizes: Student, manifest: Manifest, teacher: nn.Layer | None = None) -> nn.Layer:
    """A PPMiniLM encoder with fresh weights, or with some copied from `teacher`."""
    student = build_encoder(encoder_config("PPMiniLMModel", sizes, manifest))
    if sizes.from_teacher_layers:
        copy_layers(student, teacher, sizes.from_teacher_layers)
    return student


def copy_layers(student: nn.Layer, teacher: nn.Layer, layers: tuple[int, ...]) -> None:
    """Copy the embeddings and the named teacher layers (from 1) into the student's, in order.

    Of positions and segments the student takes as many as it has. UserError when other shapes
    differ: copying needs the same width, heads, feed-forward and vocabulary.
    """
    pairs = [(student.embeddings, teacher.embeddings)]
    pairs += [
        (student.encoder.layers[index], teacher.encoder.layers[number - 1])
        for index, number in enumerate(layers)
    ]
    for own, other in pairs:
        source = other.state_dict()
        for name, parameter in own.state_dict().items():
            value = source[name]
            if name.startswith(("position_", "token_type_")):
                value = value[: len(parameter)]
            if list(value.shape) != list(parameter.shape):
                raise UserError(
                    f"student.from_teacher_layers: {name} is {list(value.shape)} in the teacher "
                    f"and {list(parameter.shape)} in the student; copying needs equal sizes"
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
