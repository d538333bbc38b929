"""The losses against slow loops, against PaddleNLP's, and against what must not change them."""

import math

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.objectives.relations import (
    RELATIONS,
    Groups,
    reference_relation_loss,
    relation_loss,
    relation_weights,
)

MIXES = [(0.0, 1.0), (0.0, 0.0), (1.0, 0.0), (0.2, 0.3)]  # alpha, beta


def kl(teacher, student):
    """KL of the softmaxes of two lists of scores, in float64."""
    t, s = (np.exp(x - np.max(x)) / np.exp(x - np.max(x)).sum() for x in (teacher, student))
    return float((t * (np.log(t) - np.log(s))).sum())


def row_pairs(kind, teacher, student, mask, group, position, head, sample):
    """The scores of one counted row: [R, d] or [keys, d] of each side, cut out by hand."""
    for x in (teacher, student):
        if kind == "token":
            keys = [x[sample, j, head] for j in range(mask.shape[1]) if mask[sample, j]]
        elif kind == "sample":
            keys = [x[b, position, head] for b in group if mask[b, position]]
        else:
            keys = list(x[sample, position])
        row = x[sample, position, head]
        yield np.array([row @ key for key in keys]) / math.sqrt(x.shape[-1])


def slow_loss(kind, student, teacher, mask, group_size):
    """The formula, a sample, a token and a head at a time, in float64. x: [B, L, R, d]."""
    batch, length, heads, _ = student.shape
    losses = []
    for start in range(0, batch, group_size):
        group = range(start, start + group_size)
        rows = [
            kl(*row_pairs(kind, teacher, student, mask, group, position, head, sample))
            for sample in group
            for position in range(length)
            if mask[sample, position]
            for head in range(heads)
        ]
        losses.append(np.mean(rows))
    return np.mean(losses)


def made(batch=6, length=5, student=12, teacher=20, seed=0, scale=1.0):
    """Random (student, teacher, mask) with at least one token a sample."""
    random = np.random.default_rng(seed)
    lengths = random.integers(1, length + 1, batch)
    return (
        paddle.to_tensor(random.normal(0, scale, [batch, length, student]).astype("float32")),
        paddle.to_tensor(random.normal(0, scale, [batch, length, teacher]).astype("float32")),
        paddle.to_tensor((np.arange(length) < lengths[:, None]).astype("int64")),
    )


def loss_and_gradient(student, teacher, mask, heads=4, group_size=2, alpha=0.2, beta=0.3, times=1):
    student = student.detach()
    student.stop_gradient = False
    loss = (
        relation_loss(student, teacher, mask, heads, group_size, relation_weights(alpha, beta))
        * times
    )
    loss.backward()
    return float(loss), student.grad.numpy()


@pytest.mark.parametrize("kind", RELATIONS)
@pytest.mark.parametrize("group_size", [1, 3, 6])
def test_equals_a_slow_loop(kind, group_size):
    student, teacher, mask = made()
    s, t = (x.reshape([*x.shape[:2], 4, -1]) for x in (student, teacher))
    actual = float(RELATIONS[kind](s, t, Groups(mask.astype("float32"), group_size)))
    slow = slow_loss(kind, *(x.numpy().astype("float64") for x in (s, t)), mask.numpy(), group_size)
    assert actual == pytest.approx(slow, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("kind", RELATIONS)
@pytest.mark.parametrize("group_size", [1, 3, 6])
def test_the_reference_equals_a_slow_loop(kind, group_size):
    student, teacher, mask = made()
    reference = reference_relation_loss(student, teacher, mask, 4, group_size, {kind: 1.0})
    s, t = (x.reshape([*x.shape[:2], 4, -1]).numpy().astype("float64") for x in (student, teacher))
    slow = slow_loss(kind, s, t, mask.numpy(), group_size)
    assert float(reference) == pytest.approx(slow, rel=1e-5, abs=1e-8)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 999),
    group_size=st.sampled_from([1, 2, 3, 6]),
    length=st.integers(1, 7),
    weights=st.dictionaries(st.sampled_from(list(RELATIONS)), st.floats(0.1, 2), min_size=1),
)
def test_the_fast_form_is_the_reference_in_loss_and_gradient(seed, group_size, length, weights):
    student, teacher, mask = made(length=length, seed=seed)
    results = []
    for compute in (relation_loss, reference_relation_loss):
        x = student.detach()
        x.stop_gradient = False
        loss = compute(x, teacher, mask, 4, group_size, weights)
        loss.backward()
        results.append((float(loss), x.grad.numpy()))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-4, abs=1e-7)
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-3, atol=1e-6)


def squared_difference(student, teacher, groups):
    """A relation of the user's own."""
    return (student.mean() - teacher.mean()).square()


def test_a_relation_of_the_users_own_is_named_by_module_and_function():
    student, teacher, mask = made()
    name = f"{__name__}:squared_difference"
    loss = relation_loss(student, teacher, mask, 4, 2, {name: 0.5})
    expected = 0.5 * float(student.mean() - teacher.mean()) ** 2
    assert float(loss) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind", RELATIONS)
def test_the_gradient_is_that_of_the_formula(kind):
    student, teacher, mask = made(4, 3, 6, 8, seed=1)
    alpha, beta = {"token": (0.0, 0.0), "head": (1.0, 0.0), "sample": (0.0, 1.0)}[kind]
    _, gradient = loss_and_gradient(student, teacher, mask, 2, 2, alpha, beta)
    s, t = (x.reshape([4, 3, 2, -1]).numpy().astype("float64") for x in (student, teacher))
    for index in np.ndindex(s.shape):
        sides = []
        for step in (1e-5, -1e-5):
            moved = s.copy()
            moved[index] += step
            sides.append(slow_loss(kind, moved, t, mask.numpy(), 2))
        expected = (sides[0] - sides[1]) / 2e-5
        assert gradient.reshape(s.shape)[index] == pytest.approx(expected, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize(("alpha", "beta"), MIXES)
def test_equals_paddlenlps_on_a_batch_without_padding(alpha, beta):
    from paddlenlp.transformers.distill_utils import calc_multi_relation_loss

    batch, length, heads = 6, 5, 4
    student, teacher, _ = made(batch, length, 24, 40)
    # Theirs takes [B, heads of the model, L, d], splits it anew, and hands tables to a KL function.
    theirs = [x.reshape([batch, length, 2, -1]).transpose([0, 2, 1, 3]) for x in (student, teacher)]

    def mean_over_rows(log_student, relation):
        return (relation * (relation.log() - log_student)).sum(axis=-1).mean()

    no_mask = paddle.zeros([batch, 1, 1, length])
    expected = calc_multi_relation_loss(mean_over_rows, *theirs, no_mask, heads, alpha, beta)
    mask = paddle.ones([batch, length], dtype="int64")
    actual = relation_loss(student, teacher, mask, heads, batch, relation_weights(alpha, beta))
    assert float(actual) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(("alpha", "beta"), MIXES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 999), more=st.integers(1, 9), garbage=st.floats(-50, 50))
def test_padding_changes_nothing(alpha, beta, seed, more, garbage):
    student, teacher, mask = made(seed=seed)
    loss, gradient = loss_and_gradient(student, teacher, mask, alpha=alpha, beta=beta)
    filled = [
        paddle.concat([x, paddle.full([6, more, x.shape[-1]], garbage)], axis=1)
        for x in (student, teacher)
    ]
    wider = paddle.concat([mask, paddle.zeros([6, more], dtype="int64")], axis=1)
    padded_loss, padded = loss_and_gradient(*filled, wider, alpha=alpha, beta=beta)
    assert padded_loss == pytest.approx(loss, rel=1e-5, abs=1e-7)
    np.testing.assert_allclose(padded[:, :5], gradient, rtol=1e-4, atol=1e-7)
    assert abs(padded[:, 5:]).max() < 1e-25  # not 0: see divergence.MASKED
    assert (abs(gradient[mask.numpy() == 0]) < 1e-25).all()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 999), size=st.sampled_from([1, 2, 3, 6]))
def test_permuting_samples_in_their_groups_and_the_groups_changes_nothing(seed, size):
    student, teacher, mask = made(seed=seed)
    random = np.random.default_rng(seed)
    groups = random.permutation(np.arange(6).reshape(-1, size))
    order = np.concatenate([random.permutation(group) for group in groups])
    loss, gradient = loss_and_gradient(student, teacher, mask, group_size=size)
    index = paddle.to_tensor(order)
    moved = [x.index_select(index) for x in (student, teacher, mask)]
    moved_loss, moved_gradient = loss_and_gradient(*moved, group_size=size)
    assert moved_loss == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(moved_gradient, gradient[order], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("parts", [1, 2, 4])
@pytest.mark.parametrize(("alpha", "beta"), MIXES)
def test_dealing_groups_to_ranks_or_steps_changes_nothing(parts, alpha, beta):
    student, teacher, mask = made(batch=16)
    whole, gradient = loss_and_gradient(student, teacher, mask, alpha=alpha, beta=beta)
    losses, gradients = zip(
        *(
            loss_and_gradient(*piece, alpha=alpha, beta=beta, times=1 / parts)
            for piece in zip(*(x.chunk(parts) for x in (student, teacher, mask)), strict=True)
        ),
        strict=True,
    )
    assert sum(losses) == pytest.approx(whole, rel=1e-5)
    np.testing.assert_allclose(np.concatenate(gradients), gradient, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(("alpha", "beta"), MIXES)
def test_equal_relations_cost_nothing(alpha, beta):
    student, _, mask = made()
    loss, gradient = loss_and_gradient(student, student, mask, alpha=alpha, beta=beta)
    assert loss == 0
    assert (gradient == 0).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e4, 1e12])
def test_large_inputs_give_finite_losses_and_gradients(dtype, scale):
    student, teacher, mask = made()
    student, teacher = ((x.clip(-1, 1) * scale).astype(dtype) for x in (student, teacher))
    student.stop_gradient = False
    loss = relation_loss(student, teacher, mask, 4, 2, relation_weights(0.2, 0.3))
    loss.backward()
    assert loss.dtype == paddle.float32
    assert math.isfinite(float(loss))
    assert paddle.isfinite(student.grad.astype("float32")).all()


@pytest.mark.parametrize("kind", RELATIONS)
@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("side", [0, 1])
def test_an_overflow_reaches_the_gradient(kind, bad, side):
    """A float16 product that overflows is infinite: the step must be skipped, not trained on."""
    student, teacher, mask = made()
    states = [student, teacher]
    states[side][0, 0, 0] = bad  # of a real token
    states[0].stop_gradient = False
    relation_loss(*states, mask, 4, 2, {kind: 1.0}).backward()
    assert not paddle.isfinite(states[0].grad).all()


def test_a_position_with_one_sample_and_a_sample_with_one_token_give_nothing():
    student, teacher, _ = made(batch=2, length=3)
    mask = paddle.to_tensor([[1, 0, 0], [0, 0, 0]])
    loss, gradient = loss_and_gradient(student, teacher, mask, alpha=0.0, beta=0.5)
    assert loss == pytest.approx(0, abs=1e-6)
    assert abs(gradient).max() < 1e-6


def test_the_teacher_gets_no_gradient():
    student, teacher, mask = made()
    student.stop_gradient = teacher.stop_gradient = False
    relation_loss(student, teacher, mask, 4, 2, relation_weights(0.2, 0.3)).backward()
    assert student.grad is not None
    assert teacher.grad is None


def test_autocast_is_off_inside(monkeypatch):
    switches = []
    auto_cast = paddle.amp.auto_cast

    def recording(**settings):
        switches.append(settings)
        return auto_cast(**settings)

    monkeypatch.setattr(paddle.amp, "auto_cast", recording)
    relation_loss(*made(), 4, 2, relation_weights(0.2, 0.3))
    assert switches == [{"enable": False}]


class Ranks:
    """The part of a `RankGroup`, with the exchange cut out of the tensors of the whole group."""

    def __init__(self, parts, part, wholes):
        self.parts, self.part, self.wholes = parts, part, wholes

    def exchange(self, x):
        (whole,) = [whole for whole in self.wholes if whole.shape[-1] == x.shape[-1]]
        return paddle.split(whole, self.parts, axis=2)[self.part]


@pytest.mark.parametrize("parts", [2, 4])
@pytest.mark.parametrize(("alpha", "beta"), MIXES)
def test_ranks_that_share_a_group_together_have_its_loss_and_gradient(parts, alpha, beta):
    student, teacher, mask = made(batch=8)
    expected, gradient = loss_and_gradient(
        student, teacher, mask, group_size=8, alpha=alpha, beta=beta
    )
    student.stop_gradient = False
    wholes = [x.reshape([8, 5, 4, -1]) for x in (student, teacher)]
    losses = []
    for part in range(parts):
        own = slice(part * 8 // parts, (part + 1) * 8 // parts)
        weights, ranks = relation_weights(alpha, beta), Ranks(parts, part, wholes)
        losses.append(
            relation_loss(
                student[own], teacher[own], mask[own], 4, 8 // parts, weights, ranks, mask
            )
        )
    mean = sum(losses) / parts  # as data parallelism averages gradients over ranks
    mean.backward()
    assert float(mean) == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(student.grad.numpy(), gradient, rtol=1e-4, atol=1e-7)
