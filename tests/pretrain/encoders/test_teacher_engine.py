"""Every way of running the teacher gives its numbers, or says how far off they are."""

import numpy as np
import paddle
import pytest

from data_pipeline.base.errors import UserError
from data_pipeline.base.openvino_cpu import has_bfloat16
from pretrain.encoders.load import load_encoder
from pretrain.encoders.teacher_engine import APPROXIMATE, ENGINES, open_engine
from pretrain.objectives.relations import relation_error, relation_weights
from tests.pretrain import tiny

HAS_BFLOAT16 = has_bfloat16()
KINDS = [kind for kind in ENGINES if HAS_BFLOAT16 or kind != "openvino_bfloat16"]
ON_THE_CPU = [kind for kind in KINDS if kind.startswith(("onnx", "openvino"))]
TOLERANCE = {"onnx_int8": 0.2, "openvino_int8": 0.1, "openvino_bfloat16": 0.05}  # others: exact


def batch(rows=8, length=12):
    random = np.random.default_rng(0)
    ids = random.integers(5, len(tiny.TOKENS), (rows, length))
    mask = (np.arange(length) < random.integers(3, length + 1, (rows, 1))).astype(np.int64)
    return ids * mask, mask


def tensors(*arrays):
    return [paddle.to_tensor(array) for array in arrays]


def states_of_whole_encoder(encoder, ids, mask, layer):
    """Hidden states from PaddleNLP's own forward, projected by hand."""
    out = encoder(
        paddle.to_tensor(ids),
        attention_mask=paddle.to_tensor(mask),
        output_hidden_states=True,
        return_dict=True,
    )
    below, after = out.hidden_states[layer - 1], out.hidden_states[layer]
    attention = encoder.encoder.layers[layer - 1].self_attn
    return [*(getattr(attention, f"{x}_proj")(below) for x in "qkv"), after]


@pytest.fixture(scope="module", params=["Bert", "Roberta", "Ernie"])
def teacher(request, tmp_path_factory):
    return load_encoder(
        tiny.make_teacher(tmp_path_factory.mktemp(request.param) / "teacher", request.param)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_engines_give_the_states_of_paddlenlps_forward(teacher, kind):
    ids, mask = batch()
    wanted = states_of_whole_encoder(teacher, ids, mask, layer=2)
    actual = open_engine(kind, teacher, 2, with_hidden=True)(*tensors(ids, mask))
    tolerance = TOLERANCE.get(kind, 1e-5)
    for x, y in zip(actual, wanted, strict=True):
        real = mask[..., None] * abs(x.numpy() - y.numpy())
        assert real.max() < tolerance * abs(y.numpy()).max()


@pytest.mark.parametrize("kind", KINDS)
def test_one_engine_takes_batches_of_any_shape(teacher, kind):
    engine = open_engine(kind, teacher, 3, with_hidden=False)
    for rows, length in ((1, 5), (3, 24), (8, 7)):
        assert [x.shape for x in engine(*tensors(*batch(rows, length)))] == [[rows, length, 24]] * 3


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "static"])
def test_the_error_of_an_engine_is_in_the_unit_of_the_loss(teacher, kind):
    ids, mask = batch()
    exact, states = (
        open_engine(k, teacher, 2, False)(*tensors(ids, mask)) for k in ("static", kind)
    )
    settings = {"heads": 4, "group_size": 4, "weights": relation_weights(0.0, 0.5)}
    assert relation_error(exact, exact, mask, **settings) == 0
    error = relation_error(exact, states, mask, **settings)
    assert 1e-8 < error < 0.05 if kind in APPROXIMATE else error < 1e-6


def open_constant(teacher, layer, with_hidden, attention):
    """An engine of the user's own: states of ones."""
    return lambda ids, mask: [paddle.ones([*ids.shape, 24])] * (3 + with_hidden)


def test_an_engine_of_the_users_own_is_named_by_module_and_function(teacher):
    engine = open_engine(f"{__name__}:open_constant", teacher, 2, with_hidden=True)
    assert [x.shape for x in engine(*tensors(*batch()))] == [[8, 12, 24]] * 4


@pytest.mark.parametrize("kind", ON_THE_CPU)
def test_relu_has_an_onnx_form(kind):
    from pretrain.encoders.load import build_encoder

    config = {"architectures": ["BertModel"], "vocab_size": 64, **tiny.sizes(2, 16, "relu")}
    encoder = build_encoder(config)
    ids, mask = batch()
    (wanted, *_), (actual, *_) = (
        open_engine(x, encoder, 2, False)(*tensors(ids, mask)) for x in ("dynamic", kind)
    )
    np.testing.assert_allclose(actual.numpy(), wanted.numpy(), atol=0.01)


def test_a_half_precision_run_converts_the_teacher_once(tiny_root):
    encoder = load_encoder(tiny_root / "teacher")
    open_engine("dynamic", encoder, 2, with_hidden=False, dtype="bfloat16")
    assert {str(parameter.dtype) for parameter in encoder.parameters()} == {"paddle.bfloat16"}


@pytest.mark.parametrize("kind", ON_THE_CPU)
def test_an_engine_on_the_cpu_is_refused_beside_a_gpu(teacher, kind, monkeypatch):
    monkeypatch.setattr("pretrain.encoders.device.on_gpu", lambda: True)
    with pytest.raises(UserError, match=r"run the teacher on the CPU.*use dynamic or static"):
        open_engine(kind, teacher, 2, with_hidden=False)


def test_bfloat16_is_refused_where_the_processor_has_none(teacher, monkeypatch):
    monkeypatch.setattr("pretrain.encoders.graph_engines.has_bfloat16", lambda: False)
    with pytest.raises(UserError, match=r"does not multiply bfloat16.*use openvino or"):
        open_engine("openvino_bfloat16", teacher, 2, with_hidden=False)


def test_openvino_keeps_float32_unless_it_is_told_otherwise(teacher):
    """Left to itself it computes in bfloat16 where the processor has it: 3 digits."""
    ids, mask = batch()
    exact, states = (
        open_engine(kind, teacher, 3, False)(*tensors(ids, mask))
        for kind in ("dynamic", "openvino")
    )
    for x, y in zip(exact, states, strict=True):
        assert abs((x - y).numpy() * mask[..., None]).max() < 1e-5
