"""What can be known to be wrong before a rank is started: devices, ports, recipe, shards, disk."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_pipeline.base.machine import cores
from launch.environment import visible_gpus
from launch.job import Job


def problems(job: Job, output_dir: Path) -> list[str]:
    """All problems at once, each a sentence with what would be right; empty when none."""
    checked = check_recipe(job.recipe, job.overrides, job.world_size)
    return [
        *device_problems(job.nproc_per_node),
        *disk_problems(output_dir, checked.cost["disk_bytes"] if checked.cost else None),
        *checked.problems,
    ]


def device_problems(nproc_per_node: int) -> list[str]:
    """More ranks than GPUs, or than cores where there is no GPU."""
    count = len(visible_gpus())
    if count and nproc_per_node > count:
        return [f"nproc_per_node: {nproc_per_node} ranks but {count} visible GPU(s)"]
    if not count and nproc_per_node > cores():
        return [f"nproc_per_node: {nproc_per_node} ranks but {cores()} usable core(s) and no GPU"]
    return []


def as_text(recipe: Path, problems: list[str]) -> str:
    """One message for all problems."""
    return f"{recipe}: {len(problems)} problem(s)\n" + "\n".join(f"  {text}" for text in problems)


def disk_problems(output_dir: Path, needed_bytes: int | None) -> list[str]:
    """Room for what the run writes, less what it has written already, and permission to write.

    needed_bytes: what the whole run has on the disk at most; None where that is not known.
    """
    place = output_dir
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK):
        return [f"output_dir: no permission to write in {place}"]
    written = sum(p.stat().st_size for p in output_dir.rglob("*") if p.is_file())
    missing = (needed_bytes or 0) - written
    free = shutil.disk_usage(place).free
    if missing > free:
        return [
            f"output_dir: {free / 1e9:.1f} GB free in {place}; checkpoints and records of this "
            f"recipe need {missing / 1e9:.1f} GB"
        ]
    return []


@dataclass(frozen=True)
class Checked:
    """What the training package says about a recipe."""

    problems: list[str]
    cost: dict | None
    """Its `pretrain.cost.Cost` as plain values; None for a recipe that is wrong in itself."""


def check_recipe(recipe: Path, overrides: Sequence[str], world_size: int) -> Checked:
    """Ask the training package, in a process of its own."""
    command = [sys.executable, "-m", "pretrain", "check", "--config", str(recipe)]
    command += ["--world_size", str(world_size), "--json", *overrides]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        values = json.loads(result.stdout)
        return Checked(values["problems"], values["cost"])
    except (json.JSONDecodeError, KeyError):
        message = result.stderr.strip() or f"the check of the recipe ended with {result.returncode}"
        return Checked([message], None)
