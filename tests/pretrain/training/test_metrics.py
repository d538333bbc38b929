"""Records and curves: what is in them, and how they go on after a resume."""

import json
import math
import os
import resource
import signal
from types import SimpleNamespace

import numpy as np
import paddle
import pytest
from visualdl import LogReader

from data_pipeline.base.errors import UserError
from data_pipeline.base.recipes import check
from data_pipeline.loading.loader import Batch
from data_pipeline.loading.order import World
from pretrain.encoders import device
from pretrain.recipe import DistillRecipe
from pretrain.training.metrics import LogContext, MetricsLog, RecordWriter, read_metrics, slowest
from pretrain.training.step import StepResult
from tests.pretrain import tiny


def curve(directory):
    (file,) = (directory / "vdl").iterdir()
    points = LogReader(file_path=str(file)).get_data("scalar", "loss/total")
    return [(point.id, point.value) for point in points]


def written(directory, first, last, start=0):
    monitor = RecordWriter(directory, start, 10, ("visualdl",))
    for step in range(first, last + 1):
        monitor.write({"step": step, "loss/total": float(step)})
    monitor.close()


def test_a_resumed_run_goes_on_without_overlap(tmp_path):
    written(tmp_path, 1, 7)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "loss/to')  # killed while it wrote
    written(tmp_path, 5, 9, start=4)
    steps = [record["step"] for record in read_metrics(tmp_path / "metrics.jsonl")]
    assert steps == list(range(1, 10))
    assert curve(tmp_path) == [(step, float(step)) for step in steps]


def test_a_start_from_nothing_begins_anew(tmp_path):
    written(tmp_path, 1, 3)
    written(tmp_path, 1, 2)
    assert curve(tmp_path) == [(1, 1.0), (2, 2.0)]


def test_a_full_disk_is_said(tmp_path):
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        monitor = RecordWriter(tmp_path, 0, 10)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        try:
            for step in range(100):
                monitor.write({"step": step, "loss/total": 1.0})
        except UserError as error:
            os._exit(42 if "metrics.jsonl: cannot be written" in str(error) else 1)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42


@pytest.fixture
def log(tmp_path):
    """A log with a record each second step."""
    recipe = check(
        DistillRecipe,
        tiny.distill_values(tmp_path, tmp_path / "run", **{"monitor.log_every_steps": 2}),
        "test",
    )
    with MetricsLog(recipe, World(), 0) as log:
        yield log


def batch(lengths, width=8):
    mask = (np.arange(width) < np.array(lengths)[:, None]).astype(np.int64)
    return Batch(mask, mask, mask.astype(np.uint8), np.arange(len(lengths)), len(lengths))


def add(log, step, loss, updates=None):
    finite = math.isfinite(loss)
    result = StepResult({"total": paddle.to_tensor(loss)}, abs(loss), finite, stop=False)
    run = SimpleNamespace(step=step, updates=step if updates is None else updates)
    log.add(result, [batch([8, 4])], 0.5, run)


def test_a_record_has_the_mean_of_its_steps(log):
    for step, loss in enumerate((1.0, 3.0, 5.0, 6.0), start=1):
        with log.timer.part("data"):
            pass
        add(log, step, loss)
    first, second = read_metrics(log.writer.path)
    assert (first["step"], second["step"]) == (2, 4)
    assert first["loss/total"] == 2.0
    assert second["loss/total"] == 5.5
    assert first["data/padding_share"] == 0.25
    assert first["optim/lr"] == 0.5
    assert 0 <= first["time/data_wait_share"] < 1
    assert first["speed/sequences_per_s"] > 0
    assert first["speed/tokens_per_s"] > 0
    assert first["memory/peak_mb"] > 0
    assert "speed/gflop_per_s" not in first  # nobody said what a batch costs


def test_on_a_gpu_the_peak_of_its_own_memory_is_recorded_too(log, monkeypatch):
    monkeypatch.setattr(device, "on_gpu", lambda: True)
    monkeypatch.setattr(device, "peak_gpu_memory_mb", lambda: 77.0)
    add(log, 1, 1.0)
    add(log, 2, 1.0)
    (record,) = read_metrics(log.writer.path)
    assert record["memory/gpu_peak_mb"] == 77.0 != record["memory/peak_mb"]


def test_operations_are_held_against_the_ceiling(tmp_path):
    recipe = check(DistillRecipe, tiny.distill_values(tmp_path, tmp_path / "run"), "test")
    context = LogContext(
        lambda tokens, length: tokens * length, 1000.0, constants={"teacher/error": 0.5}
    )
    with MetricsLog(recipe, World(), 0, context) as log:
        add(log, 1, 2.0)
        (record,) = read_metrics(log.writer.path)
    seconds = log.samples_per_step / record["speed/sequences_per_s"]
    assert record["speed/gflop_per_s"] == pytest.approx(2 * 8 * 8 / seconds / 1e9)
    assert record["speed/matmul_ceiling_share"] == pytest.approx(2 * 8 * 8 / seconds / 1000)
    assert record["teacher/error"] == 0.5


def test_the_slowest_rank_and_the_longest_wait_for_data_are_recorded():
    ranks = [
        {"own_seconds": own, "data_seconds": data}
        for own, data in ((0.2, 0.05), (0.5, 0.01), (0.3, 0.1), (0.3, 0.0))
    ]
    assert slowest(ranks, 0.8) == {
        "time/data_wait_share": pytest.approx(0.125),
        "time/data_wait_rank": 2,
        "time/slowest_rank": 1,
        "time/slowest_rank_s": 0.5,
        "time/median_rank_s": pytest.approx(0.3),
    }
    assert slowest(ranks[:1], 0.5) == {"time/data_wait_share": pytest.approx(0.1)}


def test_skipped_steps_do_not_blot_out_the_mean_of_the_others(log):
    add(log, 1, 2.0)
    add(log, 2, math.nan, updates=1)
    add(log, 3, math.inf, updates=1)
    add(log, 4, math.inf, updates=1)
    one, none = read_metrics(log.writer.path)
    assert one["loss/total"] == 2.0
    assert one["optim/skipped"] == 1
    assert "loss/total" not in none
    assert none["optim/skipped"] == 3
    for line in log.writer.path.read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)  # NaN and Infinity are not JSON


def test_a_flush_between_two_records_writes_what_there_is_once(log):
    add(log, 1, 2.0)
    log.flush(SimpleNamespace(step=1))
    log.flush(SimpleNamespace(step=1))
    assert [record["step"] for record in read_metrics(log.writer.path)] == [1]
