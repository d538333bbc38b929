"""What a run records: metrics.jsonl (the truth), loggers (views of it), a progress line."""

import contextlib
import json
import math
import resource
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

from data_pipeline.base.errors import UserError
from data_pipeline.base.files import write_atomically
from data_pipeline.base.progress import Progress
from data_pipeline.loading.loader import Batch
from data_pipeline.loading.order import World
from pretrain.encoders import device
from pretrain.training import parallel
from pretrain.training.flops import Cost
from pretrain.training.loggers import open_loggers
from pretrain.training.records import read_metrics
from pretrain.training.resume import TrainState
from pretrain.training.settings import TrainingRecipe
from pretrain.training.step import StepResult, StepTimer

# Parts of a step in which a rank waits for no other: the gradients are exchanged in `backward`, and
# `update` needs their norm. (Where relation groups span ranks, these meet in `student`, too.)
OWN_PARTS = ("data", "teacher", "student")


class RecordWriter:
    """Records of one run; made on rank 0 only.

    On resume, records after the checkpoint are cut from metrics.jsonl, and the loggers are opened
    with what is left, so they continue without overlap.
    """

    def __init__(self, output_dir: Path, step: int, total_steps: int, loggers=(), recipe=None):
        self.path = output_dir / "metrics.jsonl"
        earlier = [record for record in read_metrics(self.path) if record["step"] <= step]
        write_atomically(self.path, "".join(f"{json.dumps(record)}\n" for record in earlier))
        self._file = self.path.open("a", encoding="utf-8")
        self._loggers = open_loggers(loggers, output_dir, earlier, recipe or {})
        self.progress = Progress(output_dir.name, total_steps, "step", start=step)

    def write(self, record: dict[str, float]) -> None:
        """One record: `step` and named numbers such as `loss/total`.

        Raises:
            UserError: it cannot be written.
        """
        try:
            self._file.write(f"{json.dumps(record)}\n")
            self._file.flush()
        except OSError as error:
            raise UserError(
                f"{self.path}: cannot be written: {error}; free some space, and the same command "
                "resumes from the newest checkpoint"
            ) from None
        numbers = {name: value for name, value in record.items() if name != "step"}
        for logger in self._loggers:
            logger.write(int(record["step"]), numbers)

    def close(self) -> None:
        """Flush everything."""
        self.progress.close()
        with contextlib.suppress(OSError):  # of a write that failed before and was reported then
            self._file.close()
        for logger in self._loggers:
            logger.close()


@dataclass(frozen=True)
class LogContext:
    """What a log needs besides the recipe."""

    cost: Cost | None = None
    """Floating-point operations of a batch, where the objective counts them."""
    ceiling: float = math.nan
    """FLOP/s of this rank's device at best."""
    all_reduce_seconds: float = 0.0
    """Of one step's gradients."""
    constants: dict[str, float] = field(default_factory=dict)
    """Written with every record."""


class MetricsLog:
    """Sums over the steps between two records; ranks talk only when a record is due.

    step: where the run resumes from.
    """

    def __init__(
        self, recipe: TrainingRecipe, world: World, step: int, context: LogContext | None = None
    ):
        self.world, self.every = world, recipe.monitor.log_every_steps
        self.samples_per_step = recipe.batch.global_batch_size
        self.context = context or LogContext()
        self.writer: RecordWriter | None = None
        if world.rank == 0:
            recipe.output_dir.mkdir(parents=True, exist_ok=True)
            self.writer = RecordWriter(
                recipe.output_dir,
                step,
                recipe.optimizer.total_steps,
                recipe.monitor.loggers,
                recipe.model_dump(mode="json"),
            )
        self._reset()

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *_) -> None:
        if self.writer:
            self.writer.close()

    def _reset(self) -> None:
        self.timer, self.began = StepTimer(), time.perf_counter()
        self.steps = self.finite_steps = self.tokens = self.cells = self.flops = 0
        self.terms: dict[str, float] = {}
        self.latest: dict[str, float] = {}

    def add(
        self,
        result: StepResult,
        batches: list[Batch],
        rate: float,
        state: TrainState,
        holdout: dict[str, float] | None = None,
    ) -> None:
        """Count one step, and write a record when it is due, or when there are numbers of the
        holdout to write."""
        self.steps += 1
        if result.finite:  # a NaN would make the mean of all a NaN
            self.finite_steps += 1
            for name, value in result.terms.items():
                self.terms[name] = self.terms.get(name, 0.0) + value
        self.tokens += sum(int(batch.attention_mask.sum()) for batch in batches)
        self.cells += sum(batch.attention_mask.size for batch in batches)
        if self.context.cost:
            shapes = [batch.input_ids.shape for batch in batches]
            self.flops += sum(self.context.cost(b * length, length) for b, length in shapes)
        self.latest = {
            "optim/lr": rate,
            "optim/grad_norm": result.gradient_norm,
            "optim/skipped": state.step - state.updates,
            **(holdout or {}),
        }
        if self.writer:
            self.writer.progress.add(1)
        if holdout or state.step % self.every == 0:
            self.flush(state)

    def flush(self, state: TrainState) -> None:
        """Write what has been summed since the last record, if anything."""
        if self.steps == 0:
            return
        sums = {f"loss/{name}": float(v) / self.finite_steps for name, v in self.terms.items()}
        sums |= {"tokens": self.tokens, "cells": self.cells, "flops": self.flops}
        sums |= {"ceiling": self.context.ceiling}
        seconds = self.timer.seconds
        waits = {"own_seconds": sum(seconds.get(part, 0.0) for part in OWN_PARTS) / self.steps}
        waits |= {"data_seconds": seconds.get("data", 0.0) / self.steps}
        ranks = parallel.by_rank(sums | waits, self.world)
        mean = {name: sum(of[name] for of in ranks) / len(ranks) for name in sums}
        with parallel.fail_together(self.world):  # the disk of rank 0 may be full
            if self.writer:
                elapsed = time.perf_counter() - self.began
                self._write(self.writer, state.step, mean, ranks, elapsed)
        self._reset()

    def _write(
        self,
        writer: RecordWriter,
        step: int,
        mean: dict[str, float],
        ranks: list[dict[str, float]],
        seconds: float,
    ) -> None:
        tokens, cells = mean.pop("tokens"), mean.pop("cells")
        flops, ceiling = mean.pop("flops"), mean.pop("ceiling")
        shares = {f"time/{name}_share": v / seconds for name, v in self.timer.seconds.items()}
        shares.pop("time/data_share", None)
        shares |= slowest(ranks, seconds / self.steps)
        if self.world.size > 1:
            # Measured alone; inside backward it overlaps with computing where the device can.
            shares["time/allreduce_share"] = self.context.all_reduce_seconds * self.steps / seconds
        record = {
            **mean,
            **self.latest,
            "speed/sequences_per_s": self.steps * self.samples_per_step / seconds,
            "speed/tokens_per_s": tokens * self.world.size / seconds,
            "data/padding_share": 1 - tokens / cells,
            **shares,
            **self._flops(flops, ceiling, seconds),
            **self.context.constants,
            "memory/peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            **({"memory/gpu_peak_mb": device.peak_gpu_memory_mb()} if device.on_gpu() else {}),
        }
        # A number that is not finite has no place in JSON; optim/skipped counts such steps.
        finite = {name: value for name, value in record.items() if math.isfinite(value)}
        writer.write({"step": step, **finite})
        writer.progress.add(
            0, loss=mean.get("loss/total", math.nan), seq_s=record["speed/sequences_per_s"]
        )

    def _flops(self, flops: float, ceiling: float, seconds: float) -> dict[str, float]:
        """flops, ceiling: of a rank."""
        if not flops:
            return {}
        return {
            "speed/gflop_per_s": flops * self.world.size / seconds / 1e9,
            "speed/matmul_ceiling_share": flops / seconds / ceiling,
        }


def slowest(ranks: list[dict[str, float]], step_seconds: float) -> dict[str, float]:
    """Which rank works longest on a step, and which waits longest for data.

    ranks: of each `own_seconds`, in a step without the parts in which it waits for other ranks, and
    `data_seconds`.
    """
    own, data = ([rank[name] for rank in ranks] for name in ("own_seconds", "data_seconds"))
    longest_wait = max(data)
    shares = {"time/data_wait_share": longest_wait / step_seconds}
    if len(ranks) == 1:
        return shares
    return shares | {
        "time/data_wait_rank": data.index(longest_wait),
        "time/slowest_rank": own.index(max(own)),
        "time/slowest_rank_s": max(own),
        "time/median_rank_s": statistics.median(own),
    }
