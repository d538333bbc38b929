"""Gains over a baseline, in numbers and words; the majority class."""

import numpy as np
import pytest

from finetune.report import compare
from finetune.report.bootstrap import Difference
from finetune.tasks import Example, Task, bio
from finetune.training.scores import SampledScore, ratio_score


def accuracy_of(right) -> SampledScore:
    right = np.asarray(right, float)
    return ratio_score(np.stack([right, np.ones_like(right)], 1))


def test_the_majority_is_the_commonest_training_label_scored_on_test():
    splits = {"train": [1, 1, 0], "dev": [0], "test": [1, 0, 0, 1, 1]}
    task = Task("t", ["a", "b"], lambda name: [Example("x", None, n) for n in splits[name]])
    found = compare.majority(task)
    assert found.label == "b"
    assert found.scores["accuracy"] == pytest.approx(0.6)
    assert found.scores["macro_f1"] == pytest.approx((0 + 2 * 3 / (5 + 3)) / 2)
    tokens = Task("t", bio.labels_of(["X"]), lambda name: [Example("x", spans=())], kind="tokens")
    assert compare.majority(tokens) is None


def test_gains_are_over_the_baseline_and_paired():
    base = np.random.default_rng(2).random(1000) < 0.7
    better = base | (np.arange(1000) % 10 == 0)
    found = compare.gains({"teacher": accuracy_of(better), "plain": accuracy_of(base)}, "plain")
    assert found.keys() == {"teacher"}
    assert found["teacher"].points == pytest.approx(100 * (better.mean() - base.mean()))
    assert found["teacher"].low > 0


@pytest.mark.parametrize(
    ("gain", "expected"),
    [
        (
            Difference(3.2, 1.1, 5.3),
            "student is 3.2 points of macro_f1 above plain on 999 test examples "
            "(95% interval +1.1 to +5.3).",
        ),
        (
            Difference(-0.6, -2.4, 1.2),
            "student is 0.6 points of macro_f1 below plain on 999 test examples "
            "(95% interval -2.4 to +1.2): the interval includes 0, so these examples do not show a "
            "difference.",
        ),
    ],
)
def test_words_say_when_there_is_nothing_to_see(gain, expected):
    assert compare.in_words("student", "plain", "macro_f1", gain, "999 test examples") == expected
