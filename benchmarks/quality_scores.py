"""Fine-tuning of quality.py's encoders: tasks, settings, and a JSON for every result."""

import json
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from data_pipeline.base.files import write_json
from finetune.settings import FitSettings
from finetune.tasks import Example, Task, open_task
from finetune.tasks.settings import TaskSettings

BATCH = 16


@dataclass(frozen=True)
class FineTuning:
    """How one task is trained: the same for every encoder, but for the seed and the rate."""

    epochs: float
    max_length: int
    train_limit: int | None = None
    held_out_limit: int | None = None
    """Of dev and of test; None: all."""


TASKS = {
    "inews": FineTuning(3, 48, 600, 600),
    "reviews": FineTuning(1, 96),
    "reviews_500": FineTuning(4, 96, held_out_limit=1000),
    "inews_matching": FineTuning(2, 64, 1000, 600),
    "people_daily_ner": FineTuning(3, 128, 600, 800),
    "people_daily_pos": FineTuning(3, 128, 600, 800),
}
SMOKE_TASKS = {
    "reviews_500": FineTuning(1, 24, 64, 48),
    "people_daily_ner": FineTuning(1, 32, 64, 48),
}


@lru_cache(maxsize=len(TASKS))
def encoded(name: str, tokenizer: Path, how: FineTuning):
    """A task's three splits as ids of a model directory's tokenizer."""
    from data_pipeline.text.encode import WordPieceEncoder
    from finetune.training.kinds import encode_examples
    from finetune.training.task_data import TaskData

    task = open_task(TaskSettings(name=name, train_limit=how.train_limit))
    encoder = WordPieceEncoder.of_directory(tokenizer)

    def ids(split: str, limit: int | None):
        return encode_examples(task, encoder, spread(task, split, limit), how.max_length)

    limits = {"train": None, "dev": how.held_out_limit, "test": how.held_out_limit}
    parts = (ids(split, limit) for split, limit in limits.items())
    return TaskData(task, tokenizer, how.max_length, *parts)


def spread(task: Task, split: str, limit: int | None) -> list[Example]:
    """`limit` examples of a split, evenly over it."""
    examples = task.split(split)
    if limit is None or limit >= len(examples):
        return examples
    return [examples[i] for i in np.linspace(0, len(examples) - 1, limit).astype(int)]


def fit_settings(how: FineTuning, rows: int, rate: float, seed: int) -> FitSettings:
    """Evaluated once an epoch; the best epoch on dev counts."""
    steps = -(-rows // BATCH)
    return FitSettings(
        epochs=how.epochs,
        batch_size=BATCH,
        learning_rate=rate,
        evaluate_every=steps,
        dropout=0.1,
        seed=seed,
    )


def fine_tune(
    encoder: Path, name: str, how: FineTuning, rate: float, seed: int, file: Path
) -> dict:
    """The result in `file`, or made now: dev and test scores, and the parts of the test score.

    A file of other settings (another encoder's weights among them) is made again.
    """
    from data_pipeline.base.files import sha256

    settings = {
        "encoder": sha256(encoder / "model.safetensors"),
        "task": name,
        **vars(how),
        "learning_rate": rate,
        "seed": seed,
    }
    if file.exists():
        stored = json.loads(file.read_text(encoding="utf-8"))
        if stored["settings"] == settings:
            return stored
    began = time.monotonic()
    data = encoded(name, encoder, how)
    model, fitted = fitted_model(encoder, data, fit_settings(how, len(data.train), rate, seed))
    from finetune.training.evaluate import logits_of

    logits = logits_of(model, data.test)
    result = {
        "settings": settings,
        "score": data.test.score_name(),
        "dev": fitted.best,
        "test": data.test.scores(logits),
        "parts": parts(data.test, logits).tolist(),
        "seconds": round(time.monotonic() - began, 1),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, result)
    return result


def parts(data, logits: np.ndarray) -> np.ndarray:
    """int64 [examples, 2], whose sums have the main score as their ratio: right answers and 1, or
    of F1 twice the hits, and the predicted plus the gold ones."""
    columns = data.columns(logits)
    if len(columns) == 2:
        predicted, labels = columns
        return np.stack([predicted == labels, np.ones_like(labels)], 1)
    hit, predicted, gold = (column.sum(1) for column in columns)
    return np.stack([2 * hit, predicted + gold], 1)


def fitted_model(encoder: Path, data, settings: FitSettings):
    """A classifier on `encoder`, fine-tuned; its best weights on dev."""
    import paddle

    from finetune.training import classifier
    from finetune.training.evaluate import evaluate
    from finetune.training.fit import fit
    from finetune.training.train import losses_of

    paddle.seed(settings.seed)
    model = classifier.from_encoder(encoder, len(data.task.labels), data.task.kind)
    fitted = fit(
        model,
        data.train,
        settings,
        losses_of(model, settings, data.train),
        lambda: evaluate(model, data.dev),
        label=f"{encoder.name} {data.task.name}",
    )
    return model, fitted


def predicted_seconds(encoder: Path, name: str, how: FineTuning) -> float:
    """Predicted seconds of a fine-tuning, from a few timed steps and evaluated batches."""
    import paddle

    from finetune.training import classifier
    from finetune.training.batches import shuffled
    from finetune.training.evaluate import logits_of
    from finetune.training.train import losses_of

    data = encoded(name, encoder, how)
    model = classifier.from_encoder(encoder, len(data.task.labels), data.task.kind)
    losses = losses_of(model, fit_settings(how, len(data.train), 1e-4, 1), data.train)
    steps = []
    for rows, _ in zip(shuffled(data.train.lengths, BATCH, 1), range(5), strict=False):
        batch = {key: paddle.to_tensor(v) for key, v in data.train.take(rows).items()}
        began = time.monotonic()
        for loss in losses(batch):
            loss.backward()
            float(loss)
        model.clear_gradients()
        steps.append(time.monotonic() - began)
    sample = data.dev.first(4 * BATCH)
    began = time.monotonic()
    logits_of(model, sample)
    a_row = (time.monotonic() - began) / len(sample)
    train = float(np.mean(steps[1:] or steps)) * how.epochs * -(-len(data.train) // BATCH)
    return train + a_row * (how.epochs * len(data.dev) + len(data.test))
