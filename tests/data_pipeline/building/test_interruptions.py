"""kill -9 at many moments: the same command goes on, and the shards are as if nothing happened."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from data_pipeline.building.build import build
from data_pipeline.shards.format import MANIFEST, Manifest
from data_pipeline.shards.verify import verify


def start(config, *more):
    words = [sys.executable, "-m", "data_pipeline", "build", "--config", str(config), *more]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(autouse=True)
def listens_to_ctrl_c():
    """A shell starts what runs in its background deaf to Ctrl-C; children would be deaf too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def finished(folder, step):
    """The results of the finished tasks of a step."""
    return list(folder.glob(f".build/*/{step}/0*.json"))


def when(condition, process, seconds=60):
    """Wait until `condition` holds or the process ends."""
    end = time.monotonic() + seconds
    while not condition() and process.poll() is None:
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.005)


@pytest.mark.ranks
@pytest.mark.parametrize("workers", [1, 2])
def test_killed_at_many_moments(corpus, recipe, recipe_file, tmp_path, workers):
    sections = {
        "sources": [{"path": str(corpus)}],
        "vocab": {"train": {"size": 3000}},
        "dedup": {"near": True},
        "piece_mb": 0.1,
    }
    expected = build(recipe(output_dir=str(tmp_path / "whole"), **sections), quiet=True)
    made = recipe(**sections, run={"workers": workers})
    config, folder = recipe_file(made), made.output_dir
    moments = [("read", 2), ("near", 1), ("write", 1), ("write", 5)]
    killed = 0
    for step, done in moments:
        process = start(config)
        when(lambda: len(finished(folder, step)) >= done, process)  # noqa: B023
        children = psutil.Process(process.pid).children() if process.poll() is None else []
        process.send_signal(signal.SIGKILL)
        process.communicate()
        psutil.wait_procs(children, timeout=20)
        assert not any(child.is_running() for child in children), "workers outlive the build"
        killed += process.returncode == -signal.SIGKILL
        if (folder / MANIFEST).exists():
            break
    assert killed >= 2
    process = start(config)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors
    assert Manifest.read(folder).fingerprint == expected.fingerprint
    assert verify(folder, quiet=True) == []
    assert not list(folder.glob(".*.tmp"))


@pytest.mark.ranks
def test_a_killed_worker_is_a_clear_error_and_nothing_is_lost(corpus, recipe, recipe_file):
    made = recipe(sources=[{"path": str(corpus)}] * 8, run={"workers": 2}, piece_mb=0.1)
    config = recipe_file(made)
    process = start(config)
    folder = made.output_dir
    when(lambda: len(finished(folder, "read")) >= 3, process)
    workers = [
        child
        for child in psutil.Process(process.pid).children()
        if "spawn_main" in " ".join(child.cmdline())
    ]
    os.kill(workers[0].pid, signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "a worker process died" in errors and "the same command continues" in errors
    kept = {path: path.stat().st_mtime_ns for path in finished(folder, "read")}
    assert kept
    again = start(config)
    when(lambda: finished(folder, "write"), again)
    assert all(path.stat().st_mtime_ns == at for path, at in kept.items() if path.exists())
    again.communicate(timeout=100)
    assert again.returncode == 0


@pytest.mark.ranks
@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_says_how_to_go_on(corpus, recipe, recipe_file, workers):
    made = recipe(sources=[{"path": str(corpus)}] * 8, run={"workers": workers}, piece_mb=0.1)
    process = start(recipe_file(made))
    folder = made.output_dir
    when(lambda: len(finished(folder, "read")) >= 2, process)
    for one in (*psutil.Process(process.pid).children(), process):  # as a terminal does
        one.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "run the same command again to continue" in errors and "Traceback" not in errors
    assert len(finished(folder, "read")) >= 2


def children_of(process):
    """The processes that a build has started, none when it has ended."""
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def spawned(processes):
    """Those of Python's multiprocessing that are workers."""
    return [one for one in processes if "spawn_main" in " ".join(one.cmdline())]


@pytest.mark.ranks
def test_ctrl_c_while_workers_start(corpus, recipe, recipe_file):
    """They import for a while and do not listen yet; no trace may come from them."""
    made = recipe(sources=[{"path": str(corpus)}] * 8, run={"workers": 2}, piece_mb=0.1)
    process = start(recipe_file(made))
    when(lambda: spawned(children_of(process)), process)
    for one in (*children_of(process), process):
        one.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1:] == ["interrupted; run the same command again to continue"]
    assert "Traceback" not in errors


@pytest.mark.ranks
@pytest.mark.parametrize("presses", [1, 2])
@pytest.mark.parametrize("moment", ["workers import", "tasks run"])
def test_ctrl_c_with_dask(corpus, recipe, recipe_file, moment, presses):
    """One sentence, no trace of any process, and none of them left."""
    run = {"workers": 2, "engine": "dask"}
    made = recipe(sources=[{"path": str(corpus)}] * 8, run=run, piece_mb=0.1)
    process = start(recipe_file(made))
    if moment == "tasks run":
        when(lambda: len(finished(made.output_dir, "read")) >= 2, process)
    else:
        when(lambda: len(spawned(children_of(process))) == 2, process)
    started = children_of(process)
    for _ in range(presses):
        for one in (*started, process):  # as a terminal does
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                one.send_signal(signal.SIGINT)
        time.sleep(0.3)  # two presses, not one
    started += children_of(process)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 130
    lines = [line for line in errors.splitlines() if not line.startswith("reading: ")]
    assert lines == ["interrupted; run the same command again to continue"]
    psutil.wait_procs(started, timeout=20)
    assert not any(one.is_running() for one in started), "workers outlive the build"


@pytest.mark.ranks
def test_a_second_ctrl_c_ends_at_once(corpus, recipe, recipe_file):
    made = recipe(sources=[{"path": str(corpus)}] * 8, run={"workers": 2}, piece_mb=0.5)
    process = start(recipe_file(made))
    when(lambda: finished(made.output_dir, "read"), process)
    workers = children_of(process)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)  # two presses, not one
    process.communicate(timeout=60)
    assert process.returncode != 0
    psutil.wait_procs(workers, timeout=20)
    assert not any(worker.is_running() for worker in workers), "workers outlive the build"
