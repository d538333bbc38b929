"""Counters of the service in Prometheus' format."""

import functools

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """Of one service; a registry of its own, so that several can live in one process."""

    def __init__(self):
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "requests", "Requests by path and status", ["path", "status"], registry=self.registry
        )
        self.requests_of = functools.cache(self.requests.labels)  # a look-up checks every value
        self.request_seconds = Histogram(
            "predict_request_seconds",
            "From the whole body of a request to its answer",
            buckets=SECONDS,
            registry=self.registry,
        )
        self.call_seconds = Histogram(
            "model_call_seconds", "One call of the model", buckets=SECONDS, registry=self.registry
        )
        self.batch_size = Histogram(
            "model_call_texts",
            "Texts in one call of the model",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128),
            registry=self.registry,
        )
        self.texts = Counter("texts", "Texts answered", registry=self.registry)
        self.waiting = Gauge(
            "waiting_texts", "Texts accepted and not yet answered", registry=self.registry
        )

    def render(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)
