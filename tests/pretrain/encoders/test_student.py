"""Students of any size, cold or from layers of a teacher."""

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.base.errors import UserError
from data_pipeline.base.recipes import check
from pretrain.encoders.load import build_encoder
from pretrain.encoders.settings import Student
from pretrain.encoders.states import states_at
from pretrain.encoders.student import build_student, copy_layers, freeze_unreached, parameters
from tests.pretrain import tiny

VOCABULARY = type("Vocabulary", (), {"vocab_size": 40, "special_ids": {"pad": 0}})
IDS = paddle.to_tensor(np.random.default_rng(0).integers(5, 40, (2, 7)))
MASK = paddle.ones_like(IDS)


def make(layers=2, hidden=16, with_hidden=False, teacher=None, **changes):
    values = {**tiny.sizes(layers, hidden), "layer": layers, **changes}
    return build_student(check(Student, values, "test"), VOCABULARY, teacher, with_hidden)


def make_teacher(family="Bert", hidden=16, **changes):
    config = {**tiny.sizes(3, hidden), "vocab_size": 40, "pad_token_id": 0, "type_vocab_size": 2}
    config |= {"architectures": [f"{family}Model"], "initializer_range": 0.3}
    encoder = build_encoder(config | changes)
    encoder.eval()
    return encoder


@settings(max_examples=12, deadline=None)
@given(st.sampled_from([1, 2, 3, 4, 6]), st.sampled_from([1, 2, 3, 6]), st.integers(1, 5))
def test_any_depth_and_width(layers, heads, head_size):
    hidden = heads * head_size
    student = make(layers, hidden, num_attention_heads=heads)
    states, pooled = student(IDS)
    assert states.shape == [2, 7, hidden] and pooled.shape == [2, hidden]
    embeddings = (40 + 32 + 2) * hidden
    attention, feed_forward = 4 * (hidden + 1) * hidden, 4 * hidden * hidden + 3 * hidden
    layer = attention + feed_forward + 4 * hidden
    total = embeddings + 2 * hidden + layers * layer + (hidden + 1) * hidden
    assert parameters(student) == total


def test_the_same_seed_makes_the_same_student_whatever_was_built_before():
    made = []
    for before in (0, 3):
        for _ in range(before):
            make(1, 4)
        paddle.seed(5)
        made.append(make())
    for one, other in zip(*(student.parameters() for student in made), strict=True):
        assert (one == other).all()


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("Bert", {}),
        ("Bert", {"type_vocab_size": 16, "vocab_size": 45, "max_position_embeddings": 40}),
        ("Ernie", {"use_task_id": True, "task_id": 2, "type_vocab_size": 4}),
        ("Roberta", {"pad_token_id": 1, "max_position_embeddings": 34, "type_vocab_size": 1}),
        ("PPMiniLM", {}),
    ],
)
def test_a_student_of_all_of_the_teachers_layers_computes_what_the_teacher_does(family, changes):
    teacher = make_teacher(family, **changes)
    student = make(3, teacher=teacher, from_teacher_layers=(1, 2, 3))
    student.eval()
    for actual, expected in zip(
        states_at(student, IDS, MASK, 3, with_hidden=True),
        states_at(teacher, IDS, MASK, 3, with_hidden=True),
        strict=True,
    ):
        np.testing.assert_allclose(actual.numpy(), expected.numpy(), atol=1e-5)


def test_some_layers_in_the_order_asked_for():
    teacher = make_teacher()
    student = make(2, teacher=teacher, from_teacher_layers=(3, 1))
    for own, number in ((0, 3), (1, 1)):
        for name, value in student.encoder.layers[own].state_dict().items():
            assert (value == teacher.encoder.layers[number - 1].state_dict()[name]).all()
    before = teacher.encoder.layers[2].linear1.weight.numpy().copy()
    student.encoder.layers[0].linear1.weight.set_value(paddle.zeros([16, 32]))
    assert (teacher.encoder.layers[2].linear1.weight.numpy() == before).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden": 24}, r"word_embeddings.weight is \[40, 24\] in the teacher and \[40, 16\]"),
        ({"intermediate_size": 20}, r"linear1.weight is \[16, 20\] in the teacher"),
        ({"num_attention_heads": 4}, "the teacher has 4 attention heads, the student 2"),
        ({"max_position_embeddings": 30}, r"position_embeddings.weight is \[30, 16\]"),
        ({"vocab_size": 39}, r"word_embeddings.weight is \[39, 16\]"),
    ],
)
def test_copying_between_other_sizes_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        copy_layers(make(), make_teacher(**changes), (1, 2))


@pytest.mark.parametrize("layer", [1, 2, 3])
@pytest.mark.parametrize("with_hidden", [False, True])
def test_frozen_is_exactly_what_gets_no_gradient(layer, with_hidden):
    student = make(3, layer=layer)
    sum(x.square().sum() for x in states_at(student, IDS, MASK, layer, with_hidden)).backward()
    unreached = {name for name, p in student.named_parameters() if p.grad is None}
    assert set(freeze_unreached(student, layer, with_hidden)) == unreached
    assert {name for name, p in student.named_parameters() if p.stop_gradient} == unreached


def test_with_relation_h_no_weight_of_a_whole_student_is_random():
    student = make(with_hidden=True)
    assert freeze_unreached(student, 2, with_hidden=True) == [
        "pooler.dense.weight",
        "pooler.dense.bias",
    ]
    states, pooled = student(IDS)
    np.testing.assert_allclose(pooled.numpy(), np.tanh(states.numpy()[:, 0]), atol=1e-6)
