"""`python -m launch watch RUN`: where a run stands, on one screen.

Reads what the run writes (`metrics.jsonl`, `recipe.resolved.yaml`, `checkpoints/`): it works on any
machine that sees the directory, during the run and after it.
"""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from data_pipeline.base import recipes
from data_pipeline.base.errors import UserError
from launch.supervise import newest_step

CLEAR = "\x1b[H\x1b[2J"
WINDOW = 20  # records that the rate is averaged over
BAR = 40  # characters


@dataclass(frozen=True)
class Status:
    """Where a run stands."""

    name: str
    step: int
    total_steps: int
    seconds_since_record: float
    sequences_per_second: float | None
    seconds_left: float | None
    losses: dict[str, float]
    data_wait_share: float | None
    data_wait_rank: int | None
    """Who waits longest for data; None where there is one rank."""
    slowest_rank: int | None
    """Who works longest on a step, waiting for other ranks not counted; None as above."""
    slowest_rank_seconds: float | None
    median_rank_seconds: float | None
    skipped_steps: int
    checkpoint_step: int
    finished: bool


def read_status(run: Path, now: float) -> Status:
    """From a run's directory; `now` in seconds since 1970.

    Raises:
        UserError: it is no run's directory, or the run has written nothing yet.
    """
    recipe = run / "recipe.resolved.yaml"
    if not recipe.is_file():
        raise UserError(f"{run}: no run is here (recipe.resolved.yaml is missing)")
    values = recipes.read_yaml(recipe)
    metrics = run / "metrics.jsonl"
    records = read_records(metrics)
    if not records:
        raise UserError(f"{metrics}: the run has not recorded a step yet")
    last = records[-1]
    total = int(values["optimizer"]["total_steps"])
    batch = int(values["batch"]["global_batch_size"])
    rates = [r["speed/sequences_per_s"] for r in records[-WINDOW:] if "speed/sequences_per_s" in r]
    rate = sum(rates) / len(rates) if rates else None
    step = int(last["step"])
    return Status(
        name=str(run),
        step=step,
        total_steps=total,
        seconds_since_record=max(0.0, now - metrics.stat().st_mtime),
        sequences_per_second=rate,
        seconds_left=(total - step) * batch / rate if rate else None,
        losses=newest_losses(records),
        data_wait_share=last.get("time/data_wait_share"),
        data_wait_rank=last.get("time/data_wait_rank"),
        slowest_rank=last.get("time/slowest_rank"),
        slowest_rank_seconds=last.get("time/slowest_rank_s"),
        median_rank_seconds=last.get("time/median_rank_s"),
        skipped_steps=int(last.get("optim/skipped", 0)),
        checkpoint_step=newest_step(run / "checkpoints"),
        finished=(run / "finished.json").is_file(),
    )


def read_records(metrics: Path) -> list[dict]:
    """The whole lines of metrics.jsonl."""
    try:
        lines = metrics.read_text(encoding="utf-8").split("\n")
    except OSError:
        return []
    return [json.loads(line) for line in lines[:-1] if line]


def newest_losses(records: list[dict]) -> dict[str, float]:
    """The newest value of each loss; those on held-out samples are not in every record."""
    losses: dict[str, float] = {}
    for record in records:
        losses |= {k: v for k, v in record.items() if "loss/" in k and v is not None}
    return losses


def as_text(status: Status) -> str:
    """The screen."""
    share = status.step / max(1, status.total_steps)
    bar = "#" * round(BAR * share)
    state = "finished" if status.finished else f"{status.seconds_since_record:.0f} s ago"
    lines = [
        status.name,
        f"step {status.step:,} of {status.total_steps:,}  [{bar:<{BAR}}] {share:.1%}",
        f"newest record      {state}",
    ]
    if status.sequences_per_second is not None:
        lines.append(f"speed              {status.sequences_per_second:,.1f} sequences/s")
    if status.seconds_left is not None and not status.finished:
        lines.append(f"time left          {duration(status.seconds_left)}")
    lines += [f"{name:<18} {value:.5g}" for name, value in status.losses.items()]
    if status.data_wait_share is not None:
        rank = "" if status.data_wait_rank is None else f" (rank {status.data_wait_rank})"
        lines.append(f"waiting for data   {status.data_wait_share:.1%} of a step{rank}")
    if status.slowest_rank is not None:
        lines.append(
            f"slowest rank       {status.slowest_rank}: {status.slowest_rank_seconds:.3g} s of own "
            f"work a step, median {status.median_rank_seconds:.3g} s"
        )
    lines.append(f"skipped steps      {status.skipped_steps}")
    saved = f"step {status.checkpoint_step}" if status.checkpoint_step >= 0 else "none yet"
    return "\n".join([*lines, f"newest checkpoint  {saved}"])


def duration(seconds: float) -> str:
    """`2 d 03:04`, or `03:04:05` below a day."""
    days, rest = divmod(round(seconds), 86400)
    hours, rest = divmod(rest, 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{days} d {hours:02}:{minutes:02}" if days else f"{hours:02}:{minutes:02}:{seconds:02}"


def watch(run: Path, interval: float) -> None:
    """Show the screen until the run has finished; once where there is no terminal."""
    while True:
        status = read_status(run, time.time())
        if not sys.stdout.isatty():
            print(as_text(status))
            return
        print(CLEAR + as_text(status), flush=True)
        if status.finished:
            return
        time.sleep(interval)
