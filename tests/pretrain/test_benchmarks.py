"""The arithmetic of the benchmarks: counts of operations, medians, the model of many GPUs."""

import argparse
import importlib.util
import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import step_batches
from pretrain.training import flops

FOLDER = Path(__file__).parents[2] / "benchmarks"


def load(name):
    """A benchmark as a module; what it does to the search path as a script is undone."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


step, scaling = load("distill_step"), load("scaling")


def product(rows, inner, columns):
    return 2 * rows * inner * columns


def test_a_layer_is_its_products():
    samples, length, hidden, inner = 2, 5, 8, 32
    rows = samples * length
    projections = 4 * product(rows, hidden, hidden)
    attention = samples * (product(length, hidden, length) + product(length, length, hidden))
    feed_forward = product(rows, hidden, inner) + product(rows, inner, hidden)
    actual = flops.block(flops.Shape(hidden, inner), rows, length)
    assert actual == projections + attention + feed_forward


def test_a_truncated_encoder_ends_with_its_projections():
    shape = flops.Shape(8, 32)
    assert flops.truncated(shape, 1, 10, 5) == 3 * product(10, 8, 8)
    below = 2 * flops.block(shape, 10, 5)
    assert flops.truncated(shape, 3, 10, 5) == below + 3 * product(10, 8, 8)


def test_a_step_is_the_teacher_once_and_the_student_three_times():
    teacher, student = flops.Shape(16, 64), flops.Shape(8, 32)
    expected = flops.truncated(teacher, 4, 10, 5) + 3 * flops.truncated(student, 2, 10, 5)
    assert flops.distillation(teacher, 4, student, 2, 10, 5) == expected


def test_shuffled_batches_have_the_same_samples_in_another_order(tmp_path):
    random = np.random.default_rng(1)
    updates = [
        [
            step_batches.padded(
                [random.integers(1, 99, random.integers(2, 20)) for _ in range(step.GROUP)]
            )
            for _ in range(2)
        ]
        for _ in range(3)
    ]
    step_batches.save(tmp_path / "batches.npz", step_batches.shuffled(updates))
    actual = step_batches.load(tmp_path / "batches.npz")
    assert [[len(ids) for ids in batches] for batches in actual] == [[step.GROUP] * 2] * 3
    rows, wanted = (
        [row[row > 0].tolist() for batches in part for ids in batches for row in ids]
        for part in (actual, updates)
    )
    assert rows != wanted
    assert sorted(rows) == sorted(wanted)
    for ids in itertools.chain(*actual):
        assert ids.shape[1] == (ids > 0).sum(axis=1).max()


def test_figures_are_medians_ranges_and_ratios_of_those_that_ran():
    def repeats(*rates):
        return [dict.fromkeys({key for *_, key in step.DETAILS}, 0.5) | {"seq_s": r} for r in rates]

    actual = step.figures_of(
        {
            "published": repeats(1, 2, 9),
            "ours": repeats(4, 5, 5),
            "ours_engine": repeats(3, 6, 6),
            "torch_bf16": repeats(5, 5, 5),
        }
    )
    assert (actual["published_seq_s"], actual["ours_seq_s"], actual["ratio"]) == (2, 5, 2.5)
    assert (actual["published_seq_s_min"], actual["published_seq_s_max"]) == (1, 9)
    assert (actual["ratio_teacher_engine"], actual["ours_engine_over_torch_bf16"]) == (3, 1.2)
    assert actual["teacher_engine_relation_error"] == 0.5
    assert not {"ratio_eval", "torch_fp32_seq_s", "matmul_ceiling_share"} & actual.keys()


def test_contenders_that_a_device_cannot_run_are_left_out():
    def names(**changes):
        options = {"torch": None, "device": "cpu", "contenders": None, "threads": 1} | changes
        return step.contenders(argparse.Namespace(**options))

    ours = ["ours", "ours_dynamic", "ours_engine", "ours_half", "ours_onnx", "ours_onnx_int8"]
    assert names() == ["published", "published_eval", *ours]
    assert names(device="gpu", torch="python")[:4] == [
        "published", "published_eval", "ours_dynamic", "ours_bfloat16",
    ]  # fmt: skip
    assert names(torch="python", contenders=["torch_bf16", "ours"]) == ["ours", "torch_bf16"]
    assert names(threads=2)[-2:] == ["ours_ranks", "ours_engine_ranks"]
    assert names(threads=2, torch="python")[-2:] == ["torch_fp32_ranks", "torch_bf16_ranks"]


def test_ranks_are_dealt_every_batch_once(tmp_path):
    updates = [[np.full((1, 2), 10 * update + i) for i in range(8)] for update in range(3)]
    dealt = [list(step_batches.of_rank(updates, rank, 2)) for rank in range(2)]
    for update, batches in enumerate(updates):
        both = [ids for rank in dealt for ids in rank[update]]
        assert sorted(ids[0, 0] for ids in both) == [ids[0, 0] for ids in batches]


class Contender:
    """A step that computes nothing, with 123 MB of a GPU's memory at most so far."""

    def __call__(self, batches):
        """One update."""

    def wait(self):
        """Nothing is queued."""

    def peak_gpu_mb(self):
        return 123.0

    def more(self, seconds):
        self.peak_gpu_mb = lambda: 999.0  # what is measured after the step does not belong to it
        return {}


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_the_peak_is_that_of_the_device(device):
    options = argparse.Namespace(batches=8, device=device)
    updates = iter([[np.ones((step.GROUP, 4), int)] * 8] * 2)
    peak = step.measure(Contender(), updates, options)["peak_mb"]
    assert (peak == 123) == (device == "gpu")


@pytest.fixture
def cluster(monkeypatch):
    """Assumptions with round numbers, and ranks that always have the same amount to do."""
    monkeypatch.setattr(scaling, "balance", lambda gpus, shards: 1.0)
    return argparse.Namespace(
        gpu_seq_s=128, parameters=1e9, gradient_bytes=4, node_gb_s=10, nvlink_gb_s=70,
        latency_ms=0, shards=None,
    )  # fmt: skip


def test_within_a_node_the_gradients_go_around_once(cluster):
    row = scaling.modelled(8, cluster)
    assert row["compute_ms"] == 1000
    assert row["allreduce_ms"] == pytest.approx(100)  # 2 * 7/8 * 4 GB at 70 GB/s
    assert row["efficiency"] == pytest.approx(1 / 1.1)
    assert row["seq_s"] == pytest.approx(8 * 128 / 1.1)


def test_between_nodes_the_network_counts(cluster):
    row = scaling.modelled(16, cluster)
    assert row["allreduce_ms"] == pytest.approx(100 + 400)  # 2 * 1/2 * 4 GB at 10 GB/s
    assert scaling.modelled(64, cluster)["efficiency"] < row["efficiency"]


def test_an_uneven_step_waits_for_its_slowest_rank(cluster, monkeypatch):
    even = scaling.modelled(8, cluster)["efficiency"]
    monkeypatch.setattr(scaling, "balance", lambda gpus, shards: 0.5)
    assert scaling.modelled(8, cluster)["efficiency"] == pytest.approx(even / 2)
