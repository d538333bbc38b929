"""The masked-language-model head against the plain way to compute it."""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from data_pipeline.loading.loader import Batch
from pretrain.encoders.load import build_encoder
from pretrain.objectives.masked_lm import MaskedLM
from pretrain.objectives.masking import IGNORED, mask_whole_words
from pretrain.objectives.settings import Masking
from tests.pretrain import tiny

VOCABULARY = type(
    "Vocabulary",
    (),
    {"vocab_size": 40, "special_ids": {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}},
)


@pytest.fixture
def objective():
    paddle.seed(1)
    config = {"architectures": ["BertModel"], "vocab_size": 40, **tiny.sizes(2, 16)}
    return MaskedLM(build_encoder({**config, "initializer_range": 0.2}), VOCABULARY, Masking())


def make_batch(rows=4, length=12, seed=0):
    random = np.random.default_rng(seed)
    ids = random.integers(5, 40, (rows, length))
    ids[:, 0], ids[:, -1] = 2, 3
    ids[0, length // 2 :] = 0
    ids[0, length // 2 - 1] = 3
    starts = random.integers(0, 2, (rows, length)).astype(np.uint8)
    mask = (ids != 0).astype(np.int64)
    return Batch(ids, mask, starts, np.arange(rows), rows)


def inputs_of(objective, batch, seed):
    arrays, weight = objective.sample(batch, np.random.default_rng(seed))
    assert weight == len(arrays[2])  # hidden tokens
    return [paddle.to_tensor(array) for array in arrays]


def test_it_is_the_cross_entropy_of_all_tokens_with_the_others_left_out(objective):
    batch = make_batch()
    loss, parts = objective(*inputs_of(objective, batch, 3))
    seen, labels = mask_whole_words(
        batch.input_ids, batch.word_start, VOCABULARY.special_ids, 40, Masking(),
        np.random.default_rng(3),
    )  # fmt: skip
    assert (labels != IGNORED).any()
    states, _ = objective.encoder(
        paddle.to_tensor(seen), attention_mask=paddle.to_tensor(batch.attention_mask)
    )
    table = objective.encoder.embeddings.word_embeddings.weight
    hidden = objective.norm(F.gelu(objective.transform(states)))
    logits = paddle.matmul(hidden, table, transpose_y=True) + objective.bias
    flat = logits.reshape([-1, 40]), paddle.to_tensor(labels.ravel())
    # Paddle's mean divides by all tokens where ignore_index is negative.
    total = F.cross_entropy(*flat, ignore_index=IGNORED, reduction="sum")
    expected = total / (labels != IGNORED).sum()
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    loss.backward()
    assert table.grad is not None
    chosen = logits.argmax(-1).numpy()[labels != IGNORED]
    accuracy = (chosen == labels[labels != IGNORED]).mean()
    assert float(parts["accuracy"]) == pytest.approx(accuracy)


def test_a_batch_without_a_word_still_has_a_finite_loss(objective):
    ids = np.array([[2, 3], [2, 3]])
    batch = Batch(ids, np.ones_like(ids), np.ones_like(ids, np.uint8), np.arange(2), 2)
    seen, mask, positions, labels = inputs_of(objective, batch, 0)
    assert positions.tolist() == [0] and labels.tolist() == [2]
    loss, _ = objective(seen, mask, positions, labels)
    loss.backward()
    assert np.isfinite(float(loss))


def test_the_same_draws_make_the_same_inputs(objective):
    one, other = (inputs_of(objective, make_batch(), 5) for _ in range(2))
    assert all((a == b).all() for a, b in zip(one, other, strict=True))
