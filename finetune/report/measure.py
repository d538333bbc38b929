"""Latency and throughput of a backend on batches of token ids, at several settings."""

import time
from itertools import product
from pathlib import Path

import numpy as np

from finetune.deploy.backends import open_backend
from finetune.settings import ReportSettings
from finetune.training.batches import Encoded


def measure_speed(directory: Path, data: Encoded, settings: ReportSettings) -> list[dict]:
    """p50, p95 and texts/s for every thread count, batch size and way of padding."""
    rows = []
    for threads in settings.threads:
        backend = open_backend(directory, threads)
        for batch_size, length in product(settings.batch_sizes, (None, settings.padded_length)):
            batches = spread_batches(data, batch_size, length)
            repeats = settings.repeats if batch_size == 1 else settings.batch_repeats
            rows.append(
                {
                    "threads": threads,
                    "batch": batch_size,
                    "length": "real" if length is None else length,
                    **summary(latencies(backend, batches, repeats), batch_size),
                }
            )
    return rows


def latencies(backend, batches: list[dict], repeats: int, warmup: int = 2) -> np.ndarray:
    """Milliseconds of each call, float64 [repeats]; calls take the batches in turn."""
    times = np.empty(repeats)
    for number in range(-warmup, repeats):
        batch = batches[number % len(batches)]
        began = time.perf_counter()
        backend.logits(batch["input_ids"], batch["token_type_ids"])
        if number >= 0:
            times[number] = (time.perf_counter() - began) * 1e3
    return times


def spread_batches(
    data: Encoded, batch_size: int, length: int | None, count: int = 16
) -> list[dict]:
    """`count` batches of examples spread over the set, at real lengths or padded to `length`."""
    rows = np.linspace(0, len(data) - 1, batch_size * count).astype(int)
    if length is not None and data.lengths.max() > length:
        length = int(data.lengths.max())
    return [data.take(rows[i * batch_size : (i + 1) * batch_size], length) for i in range(count)]


def summary(milliseconds: np.ndarray, batch_size: int) -> dict[str, float]:
    """p50 and p95 in ms, and texts a second at the median."""
    p50, p95 = np.percentile(milliseconds, [50, 95])
    return {
        "p50_ms": round(float(p50), 3),
        "p95_ms": round(float(p95), 3),
        "texts_per_s": round(batch_size * 1e3 / float(p50), 1),
    }
