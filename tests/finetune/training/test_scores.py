"""Scores and losses against other implementations."""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score
from sklearn.utils.class_weight import compute_class_weight

from finetune.training.batches import IGNORE, Encoded, ragged
from finetune.training.label_set_data import EncodedLabelSets
from finetune.training.losses import (
    class_weights,
    hidden_mse,
    positive_weights,
    soft_binary_cross_entropy,
    soft_cross_entropy,
)
from finetune.training.score_data import EncodedScores
from finetune.training.scores import (
    CORRELATIONS,
    LABEL_SET_SCORES,
    best_threshold,
)
from finetune.training.token_data import EncodedTokens
from tests.finetune.training.test_token_data import NAMES, random_data


@pytest.mark.parametrize("seed", range(5))
def test_scores_equal_scikit_learn(seed):
    random = np.random.default_rng(seed)
    labels = random.choice(4, 60, p=[0.7, 0.2, 0.1, 0.0])
    logits = random.normal(size=(60, 4))
    found = Encoded([], [], labels).scores(logits)
    assert found["accuracy"] == pytest.approx(accuracy_score(labels, logits.argmax(1)))
    assert found["macro_f1"] == pytest.approx(f1_score(labels, logits.argmax(1), average="macro"))


@pytest.mark.parametrize("seed", range(5))
def test_label_set_scores_equal_scikit_learn(seed):
    random = np.random.default_rng(seed)
    gold, predicted = (random.random((40, 5)) < [0.5, 0.3, 0.1, 0.05, 0.0] for _ in range(2))
    columns = gold & predicted, predicted, gold
    for name, average in (("micro_f1", "micro"), ("macro_f1", "macro")):
        wanted = f1_score(gold, predicted, average=average, zero_division=np.nan)
        assert LABEL_SET_SCORES[name](*columns) == pytest.approx(wanted)


@pytest.mark.parametrize("seed", range(5))
def test_no_threshold_is_better_than_the_best(seed):
    random = np.random.default_rng(seed)
    gold = random.random((12, 3)) < 0.3
    probabilities = np.round(0.4 * gold + 0.6 * random.random((12, 3)), 1)  # many are equal

    def quality(threshold):
        return f1_score(gold, probabilities >= threshold, average="micro", zero_division=0)

    best = max(quality(threshold) for threshold in np.linspace(0.01, 0.99, 99))
    assert quality(best_threshold(probabilities, gold)) == pytest.approx(best)
    assert best_threshold(probabilities, np.zeros((12, 3))) == 0.5


@pytest.mark.parametrize("seed", range(5))
def test_correlations_equal_scipy(seed):
    random = np.random.default_rng(seed)
    gold = random.integers(0, 6, 50).astype(float)  # with equal ranks
    predicted = 1e4 + np.round(gold + random.normal(size=50), 1)
    wanted = {"pearson": stats.pearsonr, "spearman": stats.spearmanr}
    for name, function in CORRELATIONS.items():
        assert function(predicted, gold) == pytest.approx(wanted[name](predicted, gold)[0])
        assert function(np.ones(50), gold) == 0.0


def classification(random) -> tuple[Encoded, np.ndarray]:
    labels = random.choice(5, 30, p=[0.6, 0.2, 0.1, 0.08, 0.02])
    return Encoded([np.ones(1)] * 30, [], labels), random.normal(size=(30, 5))


def label_sets(random) -> tuple[Encoded, np.ndarray]:
    labels = (random.random((30, 4)) < [0.5, 0.3, 0.1, 0.02]).astype(np.float32)
    logits = 3 * random.normal(size=(30, 4))
    return EncodedLabelSets([np.ones(1)] * 30, [], labels, threshold=0.6), logits


def texts_with_scores(random) -> tuple[Encoded, np.ndarray]:
    labels = random.integers(0, 6, 30).astype(np.float32)  # with equal ranks
    logits = np.round(labels + random.normal(size=30), 1)[:, None]
    return EncodedScores([np.ones(1)] * 30, [], labels), logits


def tokens(random) -> tuple[Encoded, np.ndarray]:
    data = random_data(random)
    logits = [random.normal(size=(len(row), len(NAMES))) for row in data.labels]
    for row in (0, 2):
        logits[row] = np.eye(len(NAMES))[np.maximum(data.labels[row], 0)]
    return data, ragged(logits)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("make", [classification, label_sets, texts_with_scores, tokens])
def test_a_score_on_samples_is_that_of_the_examples_drawn(make, seed):
    random = np.random.default_rng(seed)
    data, logits = make(random)
    draws = [random.integers(0, len(data), len(data)) for _ in range(20)]
    weights = np.stack([np.bincount(rows, minlength=len(data)) for rows in draws])
    for name in data.score_table:
        sampled = data.sampled(logits, name)
        wanted = [score_of(data, logits, rows, name) for rows in draws]
        np.testing.assert_allclose(sampled.of(weights.astype(float)), wanted, atol=1e-9)
        assert sampled.value == pytest.approx(data.scores(logits)[name])


def score_of(data: Encoded, logits: np.ndarray, rows: np.ndarray, name: str) -> float:
    """A score of the given rows, each as often as it is there, by another implementation."""
    if isinstance(data, EncodedScores):
        function = {"pearson": stats.pearsonr, "spearman": stats.spearmanr}[name]
        return function(logits[rows, 0], data.labels[rows])[0]
    if isinstance(data, EncodedTokens):
        predicted = [set(data.spans(row, logits[row].argmax(-1))) for row in rows]
        hits = sum(len(p & set(data.gold[row])) for p, row in zip(predicted, rows, strict=True))
        counts = [sum(map(len, predicted)), sum(len(data.gold[row]) for row in rows)]
        share = {"entity_precision": counts[0], "entity_recall": counts[1]}
        return hits / share.get(name, sum(counts) / 2)
    gold, predicted = data.labels[rows], logits[rows].argmax(-1)
    if isinstance(data, EncodedLabelSets):
        gold, predicted = gold > 0, 1 / (1 + np.exp(-logits[rows])) >= 0.6
    if name == "accuracy":
        return accuracy_score(gold, predicted)
    average = name.removesuffix("_f1")
    return f1_score(gold, predicted, average=average, zero_division=np.nan)


def test_positive_weights_are_the_negatives_for_each_positive():
    labels = np.array([[1, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, 1]], np.float32)
    assert positive_weights(labels).tolist() == [3, 1, 1]


def test_soft_binary_cross_entropy_of_a_sure_teacher_is_that_of_its_labels():
    logits, labels = paddle.randn([5, 3]), paddle.to_tensor(np.eye(5, 3, dtype="float32"))
    teacher = (labels - 0.5) * 200
    assert float(soft_binary_cross_entropy(logits, teacher)) == pytest.approx(
        float(F.binary_cross_entropy_with_logits(logits, labels)), rel=1e-5
    )


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


def test_the_loss_of_tokens_is_the_mean_over_labelled_ones(new_encoder, tmp_path):
    from finetune.training import classifier

    model = classifier.from_encoder(new_encoder(tmp_path), 3, "tokens")
    logits = paddle.randn([2, 4, 3])
    labels = paddle.to_tensor([[IGNORE, 0, 2, IGNORE], [IGNORE, 1, IGNORE, IGNORE]])
    weight = paddle.to_tensor([1.0, 5.0, 0.5])
    for chosen in (None, weight):
        rows = F.cross_entropy(logits[labels != IGNORE], labels[labels != IGNORE], weight=chosen)
        assert float(model.loss(logits, labels, chosen)) == pytest.approx(float(rows), rel=1e-5)
