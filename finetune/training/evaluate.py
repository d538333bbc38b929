"""A Paddle model on a whole set."""

import numpy as np
import paddle

from finetune.training.batches import Encoded, sorted_by_length
from pretrain.encoders import device


def logits_of(model, data: Encoded, batch_size: int = 64) -> np.ndarray:
    """Logits in the order and shape of `data` (`Encoded.collect`): float32 [n, classes], or for
    tokens [tokens, labels] of each row. The model is put into eval mode and back."""
    training = model.training
    model.eval()
    results: list = [None] * len(data)

    def store(rows: np.ndarray, logits: paddle.Tensor) -> None:
        for row, value in zip(rows, logits.numpy(), strict=True):
            results[row] = value

    with paddle.no_grad():
        before = None  # read after the next batch is queued, so that a GPU does not wait
        for rows in sorted_by_length(data.lengths, batch_size):
            batch = data.take(rows)
            inputs = (device.to_device(batch[name]) for name in ("input_ids", "token_type_ids"))
            logits = model(*inputs)
            if before is not None:
                store(*before)
            before = rows, logits
        if before is not None:
            store(*before)
    if training:
        model.train()
    return data.collect(results)


def evaluate(model, data: Encoded, batch_size: int = 64) -> dict[str, float]:
    """The scores of a model on a set, by name."""
    return data.scores(logits_of(model, data, batch_size))
