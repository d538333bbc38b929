"""How the frozen teacher is run: by the training framework, or by something faster.

An engine is a function of (input_ids, attention_mask), int64 numpy arrays [B, L], that returns the
teacher's Q, K, V and, where asked for, output hidden states of one layer, [B, L, hidden size].
"""

import os
from collections.abc import Callable

import numpy as np
import paddle
from paddle import Tensor, nn

from pretrain.objectives.relations import relation_loss, states_at

Engine = Callable[[np.ndarray, np.ndarray], list[Tensor]]


def open_engine(kind: str, teacher: nn.Layer, layer: int, with_hidden: bool) -> Engine:
    """Freeze `teacher` and make it ready to run; `kind` is one of `recipe.Teacher.engine`."""
    teacher.eval()
    for parameter in teacher.parameters():
        parameter.stop_gradient = True
    if kind in ("onnx", "onnx_int8"):
        return onnx_engine(teacher, layer, with_hidden, int8=kind == "onnx_int8")
    states = dynamic_states(teacher, layer, with_hidden)
    return static_engine(states) if kind == "static" else dynamic_engine(states)


def dynamic_states(teacher: nn.Layer, layer: int, with_hidden: bool) -> nn.Layer:
    """A layer whose forward is `states_at`."""

    class Truncated(nn.Layer):
        def __init__(self):
            super().__init__()
            self.encoder = teacher

        def forward(self, input_ids, mask):
            return states_at(self.encoder, input_ids, mask, layer, with_hidden)

    truncated = Truncated()
    truncated.eval()
    return truncated


def dynamic_engine(states: nn.Layer) -> Engine:
    """Paddle, operation by operation."""

    @paddle.no_grad()
    def run(input_ids: np.ndarray, mask: np.ndarray) -> list[Tensor]:
        return list(states(paddle.to_tensor(input_ids), paddle.to_tensor(mask)))

    return run


def static_engine(states: nn.Layer) -> Engine:
    """Paddle, as one compiled graph for all shapes."""
    spec = [paddle.static.InputSpec([None, None], "int64", name) for name in ("input_ids", "mask")]
    # Without full_graph the input spec is ignored, and each new length is compiled again.
    return dynamic_engine(paddle.jit.to_static(states, input_spec=spec, full_graph=True))


def onnx_engine(teacher: nn.Layer, layer: int, with_hidden: bool, int8: bool) -> Engine:
    """ONNX Runtime from the embeddings' output on, in float32 or INT8."""
    import onnxruntime

    from pretrain.encoders.onnx_encoder import build

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count())
    # Its threads would spin while Paddle's compute, on the same cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    model, constants = build(teacher, layer, with_hidden, int8)
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(value) for value in constants.values()]
    options.add_external_initializers(list(constants), values)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    embeddings = teacher.embeddings  # not the rest: its weights are free to go

    @paddle.no_grad()
    def run(input_ids: np.ndarray, mask: np.ndarray) -> list[Tensor]:
        embedded = embeddings(input_ids=paddle.to_tensor(input_ids)).numpy()
        feed = {"embedded": embedded, "mask": mask.astype(np.int32)}
        return [paddle.to_tensor(array) for array in session.run(None, feed)]

    run.constants = constants  # the session reads them in place: they live as long as it
    return run


@paddle.no_grad()
def relation_error(exact: list[Tensor], found: list[Tensor], mask, heads, group_size, alpha, beta):
    """KL of an engine's relations from the exact ones, the mean over Q, K, V (and H): 0 is exact.

    In the unit of the loss, so it can be held beside what the student still has to learn.
    """
    mask = paddle.to_tensor(mask)
    losses = [
        float(relation_loss(x, y, mask, heads, group_size, alpha, beta))
        for x, y in zip(found, exact, strict=True)
    ]
    return sum(losses) / len(losses)
