"""Latency and throughput of a predictor's backend on batches of token ids."""

import time

import numpy as np

from finetune.batches import Encoded


def latencies(backend, batches: list[dict], repeats: int, warmup: int = 3) -> np.ndarray:
    """Milliseconds of each call, float64 [repeats]; calls go round the batches."""
    times = np.empty(repeats)
    for number in range(-warmup, repeats):
        batch = batches[number % len(batches)]
        began = time.perf_counter()
        backend.logits(batch["input_ids"], batch["token_type_ids"])
        if number >= 0:
            times[number] = (time.perf_counter() - began) * 1e3
    return times


def batches_of(data: Encoded, batch_size: int, length: int | None, count: int = 16) -> list[dict]:
    """`count` batches of examples spread over the set, at real lengths or padded to `length`."""
    rows = np.linspace(0, len(data) - 1, batch_size * count).astype(int)
    return [data.take(rows[i * batch_size : (i + 1) * batch_size], length) for i in range(count)]


def summary(milliseconds: np.ndarray, batch_size: int) -> dict[str, float]:
    """p50 and p95 in ms, and texts a second at the median."""
    p50, p95 = np.percentile(milliseconds, [50, 95])
    return {
        "p50_ms": round(float(p50), 3),
        "p95_ms": round(float(p95), 3),
        "texts_per_s": round(batch_size * 1e3 / float(p50), 1),
    }
