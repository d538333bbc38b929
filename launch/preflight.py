"""What can be known to be wrong before a rank is started: devices, ports, recipe, shards, disk."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from data_pipeline.base.machine import cores
from launch.environment import gpus
from launch.job import Job

DISK_NEEDED_GB = 5


def problems(job: Job, output_dir: Path) -> list[str]:
    """All problems at once, each a sentence with what would be right; empty when none."""
    return [
        *device_problems(job.nproc_per_node),
        *disk_problems(output_dir),
        *recipe_problems(job),
    ]


def device_problems(nproc_per_node: int) -> list[str]:
    """More ranks than GPUs, or than cores where there is no GPU."""
    seen = gpus()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = len([v for v in visible.split(",") if v]) if seen and visible else len(seen)
    if seen and nproc_per_node > count:
        return [f"nproc_per_node: {nproc_per_node} ranks but {count} visible GPU(s)"]
    if not seen and nproc_per_node > cores():
        return [f"nproc_per_node: {nproc_per_node} ranks but {cores()} usable core(s) and no GPU"]
    return []


def as_text(recipe: Path, problems: list[str]) -> str:
    """One message for all problems."""
    return f"{recipe}: {len(problems)} problem(s)\n" + "\n".join(f"  {text}" for text in problems)


def disk_problems(output_dir: Path) -> list[str]:
    """Room for checkpoints, and leave to write them."""
    place = output_dir
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK):
        return [f"output_dir: no permission to write in {place}"]
    free = shutil.disk_usage(place).free / 1e9
    if free < DISK_NEEDED_GB:
        return [f"output_dir: {free:.1f} GB free in {place}; {DISK_NEEDED_GB} GB are needed"]
    return []


def recipe_problems(job: Job) -> list[str]:
    """What the training package itself finds wrong with the recipe, asked in its own process."""
    words = [sys.executable, "-m", "pretrain", "check", "--config", str(job.recipe)]
    words += ["--world_size", str(job.world_size), "--json", *job.overrides]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    try:
        return json.loads(result.stdout)["problems"]
    except (json.JSONDecodeError, KeyError):
        return [result.stderr.strip() or f"the check of the recipe ended with {result.returncode}"]
