"""What stands in for a model."""

import threading

from finetune.deploy.answers import Prediction


class Instant:
    """A predictor that gives every text itself as its label."""

    labels = ("x",)

    def predict(self, texts, pairs=None):
        return [Prediction(text, 1.0, {}) for text in texts]


class Slow:
    """A predictor that counts its calls and waits for leave."""

    labels = ("x",)

    def __init__(self):
        self.calls: list[list[str]] = []
        self.leave = threading.Event()

    def predict(self, texts, pairs=None):
        self.calls.append(list(texts))
        assert self.leave.wait(30)
        return [Prediction(text, 1.0, {}) for text in texts]
