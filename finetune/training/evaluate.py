"""A Paddle model on a whole set."""

import numpy as np
import paddle

from finetune.training.batches import Encoded, sorted_by_length


def logits_of(model, data: Encoded, batch_size: int = 64) -> np.ndarray | list[np.ndarray]:
    """Logits in the order and shape of `data` (`Encoded.collect`): float32 [n, classes], or for
    tokens [tokens, labels] of each row. The model is put into eval mode and back."""
    training = model.training
    model.eval()
    results: list = [None] * len(data)
    with paddle.no_grad():
        for rows in sorted_by_length(data.lengths, batch_size):
            batch = data.take(rows)
            values = model(
                paddle.to_tensor(batch["input_ids"]), paddle.to_tensor(batch["token_type_ids"])
            ).numpy()
            for row, value in zip(rows, values, strict=True):
                results[row] = value
    if training:
        model.train()
    return data.collect(results)


def evaluate(model, data: Encoded, batch_size: int = 64) -> dict[str, float]:
    """The scores of a model on a set, by name."""
    return data.scores(logits_of(model, data, batch_size))
