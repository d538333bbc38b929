"""Latency: models are called in turn, and the spread is shown."""

import numpy as np
import pytest

from finetune.report import measure


def test_models_are_called_in_turn_and_the_first_rounds_are_left_out():
    calls = []

    class Named:
        def __init__(self, name):
            self.name = name

        def logits(self, input_ids, token_type_ids):
            calls.append(self.name)

    batch = {"input_ids": None, "token_type_ids": None}
    backends = {name: Named(name) for name in "abc"}
    times = measure.latencies(backends, {name: [batch] * 3 for name in "abc"}, repeats=4)
    assert "".join(calls) == "abc" * (3 + 4)
    assert {name: len(values) for name, values in times.items()} == {"a": 4, "b": 4, "c": 4}


def test_no_shape_is_new_when_it_is_timed(monkeypatch):
    """The first call of a shape takes a second here."""
    now, seen = [0.0], set()

    class Prepares:
        def logits(self, input_ids, token_type_ids):
            now[0] += 0.001 if input_ids in seen else 1.0
            seen.add(input_ids)

    monkeypatch.setattr(measure.time, "perf_counter", lambda: now[0])
    batches = [{"input_ids": length, "token_type_ids": None} for length in range(16)]
    times = measure.latencies({"a": Prepares()}, {"a": batches}, repeats=20)
    assert times["a"].max() == pytest.approx(1.0)


def test_the_summary_has_the_spread():
    row = measure.summary(np.array([4.0, 1.0, 2.0, 3.0, 10.0]), batch_size=2)
    assert (row["min_ms"], row["p25_ms"], row["p50_ms"], row["p75_ms"], row["max_ms"]) == (
        1,
        2,
        3,
        4,
        10,
    )
    assert row["texts_per_s"] == pytest.approx(2000 / 3, abs=0.1)
