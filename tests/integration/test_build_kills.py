"""Builds that are killed at random moments end with the shards of one that is not.

BUILD_KILLS sets how often each build is killed: a few times by default, since every kill costs a
start; `BUILD_KILLS=20 pytest tests/integration/test_build_kills.py` is a longer check.
"""

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from data_pipeline.base.recipes import check
from data_pipeline.building.build import build
from data_pipeline.building.steps import STEPS
from data_pipeline.recipe import BuildRecipe
from data_pipeline.shards.format import HOLDOUT, MANIFEST, Manifest
from data_pipeline.shards.verify import verify

KILLS = int(os.environ.get("BUILD_KILLS", "3"))
PIECES = 8 + 4 * KILLS
DOCUMENTS = 12  # in a piece
CHARACTERS = "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就"
START_S = 3.0  # about what the command and its workers need to start


def write_corpus(folder: Path) -> None:
    """A file a piece, with duplicates across pieces; the same on every run."""
    chosen = random.Random(0)
    folder.mkdir()
    sentences = []
    for piece in range(PIECES):
        documents = []
        for _ in range(DOCUMENTS):
            new = ["".join(chosen.choices(CHARACTERS, k=30)) + "。" for _ in range(6)]
            old = chosen.sample(sentences, min(2, len(sentences)))
            documents.append("\n".join([*new, *old]))
            sentences += new
        (folder / f"{piece:03d}.txt").write_text("\n\n".join(documents), encoding="utf-8")


def values(folder: Path, name: str, **run) -> dict:
    """A recipe with every step, in about a piece a file."""
    return {
        "output_dir": str(folder / name),
        "sources": [{"path": str(folder / "corpus"), "weight": 1, "repeat": 1.5}],
        "vocab": {"train": {"size": 100, "min_count": 1}},
        "dedup": {"near": True},
        "holdout": {"share": 0.1},
        "piece_mb": (folder / "corpus" / "000.txt").stat().st_size / 1e6,
        "run": run,
    }


def finished_tasks(output: Path) -> int:
    results = output.glob(".build/*/*/0*.json")
    return sum(path.parent.name in STEPS for path in results)


def kill_at_random(config: Path, output: Path, chosen: random.Random, more: int) -> bool:
    """Start the build and kill it after up to `more` further tasks; whether it was killed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "data_pipeline", "build", "--config", str(config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    goal, seen = chosen.randint(0, more), finished_tasks(output)
    # With a goal of 0 the moment of the kill is while it starts, at the latest after a task.
    until = time.monotonic() + (chosen.uniform(0, START_S) if goal == 0 else math.inf)
    while finished_tasks(output) < seen + max(1, goal) and process.poll() is None:
        if time.monotonic() >= until:
            break
        time.sleep(0.002)
    time.sleep(chosen.uniform(0, 0.005))  # and somewhere in a task
    children = []
    if process.poll() is None:
        children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive, "workers outlive the build"
    return process.returncode == -signal.SIGKILL


@pytest.mark.ranks
@pytest.mark.parametrize("engine", ["local", "dask"])
def test_killed_at_random_moments(engine, tmp_path):
    write_corpus(tmp_path / "corpus")
    straight = values(tmp_path, "straight", workers=1)
    expected = build(check(BuildRecipe, straight, "test"), quiet=True)
    assert len(expected.shards) > PIECES and expected.counters["sentences_exact_duplicate"] > PIECES
    config, output = tmp_path / "recipe.yaml", tmp_path / "killed"
    config.write_text(yaml.safe_dump(values(tmp_path, "killed", workers=2, engine=engine)))
    chosen = random.Random(f"{engine} {KILLS}")
    killed = 0
    for number in range(KILLS):
        left = 2 * PIECES + 4 - finished_tasks(output)
        killed += kill_at_random(config, output, chosen, max(1, left // (KILLS - number + 1)))
    assert killed == KILLS, "the build was finished before the last kill"
    found = build(check(BuildRecipe, values(tmp_path, "killed", workers=1), "test"), quiet=True)
    assert found.fingerprint == expected.fingerprint and found.counters == expected.counters
    held = [Manifest.read(folder / HOLDOUT) for folder in (tmp_path / "straight", output)]
    assert held[0].fingerprint == held[1].fingerprint
    assert verify(output, quiet=True) == verify(output / HOLDOUT, quiet=True) == []
    assert not list(output.rglob("*.tmp")) and json.loads((output / MANIFEST).read_text())
