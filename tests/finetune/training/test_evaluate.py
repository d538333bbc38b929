"""Logits of a whole set."""

import numpy as np
import paddle
import pytest

from finetune.training.batches import Encoded
from finetune.training.evaluate import logits_of

LENGTHS = (3, 1, 4, 2, 5)


class Logits:
    """The sum of each row's ids; notes when the host reads it."""

    def __init__(self, number, values, asked):
        self.number, self.values, self.asked = number, values, asked

    def numpy(self):
        self.asked.append(f"read {self.number}")
        return self.values


class Model(paddle.nn.Layer):
    def __init__(self):
        super().__init__()
        self.asked = []

    def forward(self, input_ids, token_type_ids):
        assert not self.training
        number = sum(text.startswith("queue") for text in self.asked) + 1
        self.asked.append(f"queue {number}")
        return Logits(number, input_ids.numpy().sum(1, keepdims=True), self.asked)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_rows_keep_their_order_and_a_device_has_the_next_batch_when_one_is_read(batch_size):
    ids = [np.full(length, 10 + length, np.int64) for length in LENGTHS]
    types = [np.zeros(length, np.int64) for length in LENGTHS]
    data, model = Encoded(ids, types, np.zeros(len(ids), np.int64)), Model()
    model.train()
    logits = logits_of(model, data, batch_size)
    assert logits[:, 0].tolist() == [length * (10 + length) for length in LENGTHS]
    assert model.training
    batches = -(-len(ids) // batch_size)
    for number in range(1, batches):
        assert model.asked.index(f"queue {number + 1}") < model.asked.index(f"read {number}")
