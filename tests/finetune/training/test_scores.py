"""Accuracy, macro-F1 and losses against other implementations."""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from sklearn.metrics import accuracy_score, f1_score
from sklearn.utils.class_weight import compute_class_weight

from finetune.training.losses import class_weights, hidden_mse, soft_cross_entropy
from finetune.training.scores import scores


@pytest.mark.parametrize("seed", range(5))
def test_scores_equal_scikit_learn(seed):
    random = np.random.default_rng(seed)
    labels = random.choice(4, 60, p=[0.7, 0.2, 0.1, 0.0])
    logits = random.normal(size=(60, 4))
    found = scores(logits, labels)
    assert found["accuracy"] == pytest.approx(accuracy_score(labels, logits.argmax(1)))
    assert found["macro_f1"] == pytest.approx(f1_score(labels, logits.argmax(1), average="macro"))


def test_class_weights_equal_scikit_learn():
    labels = np.array([0] * 7 + [1] * 2 + [3])
    wanted = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=labels)
    # scikit-learn counts three classes, a task with a class that never occurs four
    np.testing.assert_allclose(class_weights(labels, 4)[[0, 1, 3]], wanted * 3 / 4, rtol=1e-6)
    assert class_weights(labels, 4)[2] == 1


def test_soft_cross_entropy_of_a_sure_teacher_is_cross_entropy():
    logits = paddle.randn([5, 3])
    labels = paddle.to_tensor([0, 2, 1, 1, 0])
    teacher = F.one_hot(labels, 3) * 100.0
    assert float(soft_cross_entropy(logits, teacher)) == pytest.approx(
        float(F.cross_entropy(logits, labels)), rel=1e-5
    )


def test_temperature_keeps_the_size_of_the_gradient():
    logits = paddle.randn([64, 3]) * 0.1
    sizes = []
    for temperature in (1.0, 4.0):
        student = logits.clone()
        student.stop_gradient = False
        soft_cross_entropy(student, paddle.flip(logits, [1]), temperature).backward()
        sizes.append(float(student.grad.norm()))
    assert sizes[1] == pytest.approx(sizes[0], rel=0.1)


def test_hidden_mse_ignores_padding():
    mask = paddle.to_tensor([[True, True, False]])
    a = [paddle.zeros([1, 3, 2]), paddle.zeros([1, 3, 2])]
    b = [paddle.full([1, 3, 2], 2.0), paddle.zeros([1, 3, 2])]
    b[1][:, 2] = 1e6
    assert float(hidden_mse(a, b, mask)) == pytest.approx(4.0)
