"""Latency and throughput of several models on batches of token ids, measured in turns."""

import time
from itertools import product
from pathlib import Path
from typing import TypeVar

import numpy as np

from finetune.deploy.backends import Backend, open_backend
from finetune.settings import ReportSettings
from finetune.training.batches import Encoded

Name = TypeVar("Name")


def measure_speed(
    models: dict[str, tuple[Path, Encoded]], settings: ReportSettings
) -> dict[str, list[dict]]:
    """Rows by model, one for every thread count, batch size and way of padding.

    models: name to (directory, examples in its vocabulary). Every model is called once a round, so
    that a busy moment of the machine hits all of them.
    """
    rows: dict[str, list[dict]] = {name: [] for name in models}
    for threads in settings.threads:
        backends = {name: open_backend(path, threads) for name, (path, _) in models.items()}
        for batch_size, length in product(settings.batch_sizes, (None, settings.padded_length)):
            batches = {
                name: spread_batches(data, batch_size, length) for name, (_, data) in models.items()
            }
            repeats = settings.repeats if batch_size == 1 else settings.batch_repeats
            for name, times in latencies(backends, batches, repeats).items():
                rows[name].append(
                    {
                        "threads": threads,
                        "batch": batch_size,
                        "length": "real" if length is None else length,
                        **summary(times, batch_size),
                    }
                )
    return rows


def latencies(
    backends: dict[Name, Backend], batches: dict[Name, list[dict]], repeats: int
) -> dict[Name, np.ndarray]:
    """Milliseconds of each call, float64 [repeats] by model; round by round, models in turn.

    As many rounds as there are batches come first and are not counted: a runtime may prepare itself
    for each new shape, and a service has seen them all.
    """
    times = {name: np.empty(repeats) for name in backends}
    for number in range(-max(map(len, batches.values())), repeats):
        for name, backend in backends.items():
            batch = batches[name][number % len(batches[name])]
            began = time.perf_counter()
            backend.logits(batch["input_ids"], batch["token_type_ids"])
            if number >= 0:
                times[name][number] = (time.perf_counter() - began) * 1e3
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
    """Smallest, quartiles, p95 and largest in ms, and texts a second at the median."""
    names = ("min_ms", "p25_ms", "p50_ms", "p75_ms", "p95_ms", "max_ms")
    values = np.percentile(milliseconds, [0, 25, 50, 75, 95, 100])
    return {
        **{name: round(float(value), 3) for name, value in zip(names, values, strict=True)},
        "texts_per_s": round(batch_size * 1e3 / float(values[2]), 1),
    }
