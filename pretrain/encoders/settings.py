"""Settings of the two encoders: the frozen teacher, and the student."""

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from data_pipeline.base.functions import FUNCTION_NAME
from data_pipeline.base.recipes import Recipe, wrong_together
from pretrain.encoders.teacher_engine import ENGINES


class EncoderSizes(Recipe):
    """The shape of an encoder."""

    num_hidden_layers: int = Field(6, ge=1)
    """Layers."""
    hidden_size: int = Field(768, ge=1)
    """Width."""
    num_attention_heads: int = Field(12, ge=1)
    """Heads; they divide the width."""
    intermediate_size: int = Field(3072, ge=1)
    """Width of the feed-forward."""
    hidden_act: Literal["relu", "gelu"] = "relu"
    """Activation of the feed-forward; the published student uses ReLU."""
    hidden_dropout_prob: float = Field(0.1, ge=0, lt=1)
    """Dropout after embeddings and sublayers."""
    attention_probs_dropout_prob: float = Field(0.1, ge=0, lt=1)
    """Dropout of attention weights."""
    max_position_embeddings: int = Field(512, ge=1)
    """Longest input."""
    initializer_range: float = Field(0.02, gt=0)
    """Standard deviation of fresh weights."""

    @model_validator(mode="after")
    def _heads_divide(self):
        if self.hidden_size % self.num_attention_heads:
            raise wrong_together(
                f"hidden_size {self.hidden_size} is not a multiple of "
                f"num_attention_heads {self.num_attention_heads}",
                "hidden_size",
                "num_attention_heads",
            )
        return self


class InitialWeights(Recipe):
    """What an encoder's weights are before the first step. The defaults are BERT's; the others
    start close to a model of neighbouring tokens, which saves a small encoder its first millions
    of tokens."""

    words: Literal["normal", "cooccurrence"] = "normal"
    """Word embeddings: drawn, or a singular value decomposition of the shards' co-occurrences."""
    local_attention: bool = False
    """Positions as sines and cosines, and heads that look at one neighbour each at first."""
    neighbours: bool = False
    """The first layer adds what each neighbour makes likely, by the shards' co-occurrences. Needs
    `local_attention` and `words: cooccurrence`."""

    @model_validator(mode="after")
    def _neighbours_have_what_they_need(self):
        if self.neighbours and not (self.local_attention and self.words == "cooccurrence"):
            raise wrong_together(
                "neighbours needs local_attention: true and words: cooccurrence",
                "neighbours",
                "local_attention",
                "words",
            )
        return self

    @property
    def from_corpus(self) -> bool:
        """Whether the text decides a part of them."""
        return self.neighbours or self.words == "cooccurrence"

    @property
    def drawn(self) -> bool:
        """Whether all are drawn, as BERT's."""
        return not (self.from_corpus or self.local_attention)


class Teacher(Recipe):
    """The frozen encoder whose relations the student learns."""

    path: str
    """Directory with config.json, model.safetensors and vocab.txt, or the name of a model in
    PaddleNLP's cache."""
    weights: str = "model.safetensors"
    """File of the weights. A pickle (model_state.pdparams) is read only if it is named here, and
    then nothing but plain arrays is taken from it."""
    layer: int = Field(ge=1)
    """Layer whose Q, K and V are learned, counted from 1 (20 of 24 in the published recipe)."""
    engine: str = "dynamic"
    """What runs it: `dynamic` (Paddle), `static` (Paddle's compiled graph), on a CPU `onnx` or
    `onnx_int8` (ONNX Runtime), `openvino`, `openvino_bfloat16` or `openvino_int8` (OpenVINO, the
    fastest there), or `package.module:function` for one of your own. Those in bfloat16 and INT8
    are not exact: the error of their relations is printed at the start and logged."""

    @field_validator("engine")
    @classmethod
    def _known_engine(cls, value: str) -> str:
        if value not in ENGINES and not re.fullmatch(FUNCTION_NAME, value):
            names = ", ".join(map(repr, ENGINES))
            raise ValueError(f"none of {names}, and not package.module:function")
        return value


class Student(EncoderSizes):
    """The encoder that learns."""

    layer: int = Field(6, ge=1)
    """Layer whose Q, K and V learn, counted from 1."""
    from_teacher_layers: tuple[int, ...] = ()
    """Teacher layers (from 1) that the student's layers start from; empty: from scratch."""

    @model_validator(mode="after")
    def _layers_there(self):
        if self.layer > self.num_hidden_layers:
            raise wrong_together(
                f"layer {self.layer} is not there: num_hidden_layers is {self.num_hidden_layers}",
                "layer",
                "num_hidden_layers",
            )
        if self.from_teacher_layers and len(self.from_teacher_layers) != self.num_hidden_layers:
            raise wrong_together(
                f"from_teacher_layers names {len(self.from_teacher_layers)} layers, "
                f"num_hidden_layers is {self.num_hidden_layers}",
                "from_teacher_layers",
                "num_hidden_layers",
            )
        return self
