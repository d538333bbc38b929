"""The training loop that fine-tuning, distillation and every kind of pruning share."""

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import paddle

from data_pipeline.base.progress import Progress
from finetune.settings import FitSettings
from finetune.training import ranks
from finetune.training.ahead import ahead
from finetune.training.batches import Encoded, shuffled
from pretrain.encoders import device
from pretrain.encoders.cpu import fast_cpu
from pretrain.encoders.cpu_layers import replaced_layers
from pretrain.training import precision
from pretrain.training.settings import Precision

Losses = Callable[[dict], Iterable[paddle.Tensor]]
SHOW_EVERY = 20  # steps between two readings of the loss for the progress bar


@dataclass(frozen=True)
class Batch:
    """What this rank does in one optimiser step."""

    share: float
    """Weight of this rank's loss in the loss of the whole batch, see `World.share`."""
    parts: list[tuple[float, dict[str, paddle.Tensor]]]
    """Weight in this rank's loss, and tensors, of what goes through the device at a time."""


@dataclass
class Fitted:
    """The outcome of `fit`, apart from the weights in the model."""

    best: dict[str, float]
    """Scores on dev of the weights that the model is left with."""
    step: int
    """Optimiser step that they come from."""
    history: list[dict] = field(default_factory=list)
    """One entry per evaluation: step, loss since the last one, scores."""


def fit(
    model,
    data: Encoded,
    settings: FitSettings,
    losses: Losses,
    evaluate: Callable[[], dict[str, float]],
    *,
    label: str = "train",
    on_gradients: Callable[[int, int], None] = lambda step, total: None,
    after_step: Callable[[int, int], None] = lambda step, total: None,
    on_evaluation: Callable[[dict], None] = lambda entry: None,
    keep_last: bool = False,
) -> Fitted:
    """Train `model` in place and leave it with the weights that scored best on dev.

    `losses(batch)` gives the losses of one batch of tensors, whose sum is minimised; `evaluate()`
    gives the dev scores. `on_gradients(step, total)` runs when the gradients are those of the whole
    batch, over all ranks, and `after_step(step, total)` after each update, counted from 1 (pruning
    masks go there). With `keep_last` the last weights stay, as a schedule that ends in its most
    pruned state needs. `on_evaluation` may raise to end the training.

    The host reads the loss at evaluations and every SHOW_EVERY steps only, and batches are copied
    without waiting, so that it queues the next steps while a GPU computes.
    """
    precision.configure(number_formats(settings))
    scaler = paddle.amp.GradScaler(
        enable=precision.effective_dtype(number_formats(settings)) == "float16",
        init_loss_scaling=number_formats(settings).initial_loss_scale,
    )
    score = data.score_name(settings.choose_by)
    world = ranks.join()
    paddle.seed(settings.seed + world.rank)  # dropout differs, weights are there already
    total = max(1, round(settings.epochs * np.ceil(len(data) / settings.batch_size)))
    every = settings.evaluate_every or max(1, int(np.ceil(len(data) / settings.batch_size / 2)))
    optimizer, schedule = _optimizer(model, settings, total)
    fitted, weights, stale = Fitted({}, 0), None, 0
    summed, since = paddle.zeros([]), 0  # loss since the last evaluation, on the device
    if settings.dropout is not None:
        set_dropout(model, settings.dropout)
    model.start(data)
    model.train()
    batches = prefetched(prepared(data, settings, world, total))
    with (
        contextlib.closing(batches),
        fast_cpu(),
        replaced_layers(model),
        Progress(label, total, "step", quiet=world.rank > 0) as progress,
    ):
        for step, batch in enumerate(batches, 1):
            loss = add_gradients(losses, batch, settings, scaler)
            world.average(model.parameters(), batch.share)
            scaler.unscale_(optimizer)
            on_gradients(step, total)
            scaler.step(optimizer)
            scaler.update()
            optimizer.clear_grad()
            schedule.step()
            after_step(step, total)
            summed, since = summed + loss, since + 1
            progress.add(1, **({} if step % SHOW_EVERY else {"loss": float(loss)}))
            if step % every and step != total:
                continue
            entry = {
                "step": step,
                "loss": float(summed) / since,
                **ranks.from_first(world, evaluate),
            }
            summed, since = paddle.zeros([]), 0
            fitted.history.append(entry)
            on_evaluation(entry)
            if keep_last or not fitted.best or entry[score] > fitted.best[score]:
                fitted.best = {name: entry[name] for name in data.score_table}
                fitted.step, stale = step, 0
                weights = None if keep_last else _copy(model)
            else:
                stale += 1
            if settings.patience and stale >= settings.patience:
                break
    if weights is not None:
        model.set_state_dict(weights)
    model.finish()
    model.eval()
    return fitted


def prefetched(batches: Generator[Batch, None, None]) -> Generator[Batch, None, None]:
    """The same batches. For a GPU a thread pads them and begins to copy them there while the host
    is busy with a step; on a CPU padding takes 1% of a short step, and a thread saves nothing."""
    if not device.on_gpu():
        return batches
    return ahead(batches, partial(paddle.device.set_device, paddle.device.get_device()))


def prepared(
    data: Encoded, settings: FitSettings, world: ranks.World, total: int
) -> Generator[Batch, None, None]:
    """This rank's part of `total` batches, on the device in use."""
    for rows in _batches(data, settings, total):
        mine = world.mine(rows)
        size = settings.micro_batch_size or len(mine)
        parts = [mine[i : i + size] for i in range(0, len(mine), size)]
        counts = [data.count(part) for part in parts]
        shares = [count / max(1, sum(counts)) for count in counts]
        yield Batch(
            world.share(rows),
            [
                (share, _tensors(data.take(part)))
                for part, share in zip(parts, shares, strict=True)
                if share or len(parts) == 1  # without a label, its mean loss is no number
            ],
        )


def add_gradients(losses: Losses, batch: Batch, settings: FitSettings, scaler) -> paddle.Tensor:
    """Add the gradients of the mean loss over a batch, in parts of at most
    `settings.micro_batch_size`; returns the loss, a scalar on the device."""
    total = paddle.zeros([])
    for share, tensors in batch.parts:
        remaining = iter(losses(tensors))
        while (loss := _next_loss(remaining, settings)) is not None:
            scaler.scale(loss * share).backward()
            total = total + loss.detach() * share
    return total


def _next_loss(remaining: Iterator[paddle.Tensor], settings: FitSettings) -> paddle.Tensor | None:
    with precision.autocast(number_formats(settings)):
        return next(remaining, None)


def number_formats(settings: FitSettings) -> Precision:
    """As pre-training's settings have them; TF32 as Paddle has it."""
    return Precision(dtype=settings.dtype, tf32=True)


def set_dropout(model, probability: float) -> None:
    """Give every dropout in the model, attention's too, one probability."""
    for layer in model.sublayers():
        if isinstance(layer, paddle.nn.Dropout):
            layer.p = probability
        elif isinstance(layer, paddle.nn.MultiHeadAttention):
            layer.dropout = probability


def _batches(data: Encoded, settings: FitSettings, total: int):
    """Rows of `total` batches, epoch after epoch."""
    done, epoch = 0, 0
    while done < total:
        for rows in shuffled(data.lengths, settings.batch_size, settings.seed + epoch):
            if done == total:
                return
            yield rows
            done += 1
        epoch += 1


def _tensors(batch: dict) -> dict:
    return {name: device.to_device(value) for name, value in batch.items()}


def _optimizer(model, settings: FitSettings, total: int):
    warmup = max(1, round(total * settings.warmup_share))
    schedule = paddle.optimizer.lr.LambdaDecay(
        settings.learning_rate,
        lambda step: min((step + 1) / warmup, max(0.0, (total - step) / max(1, total - warmup))),
    )
    decayed = {p.name for p in model.parameters() if len(p.shape) > 1}
    optimizer = paddle.optimizer.AdamW(
        schedule,
        parameters=[p for p in model.parameters() if not p.stop_gradient],
        weight_decay=settings.weight_decay,
        apply_decay_param_fun=lambda name: name in decayed,
        grad_clip=paddle.nn.ClipGradByGlobalNorm(settings.clip_norm),
    )
    return optimizer, schedule


def _copy(model) -> dict:
    return {name: value.numpy() for name, value in model.state_dict().items()}
