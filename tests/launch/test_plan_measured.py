"""The estimate of `launch plan` beside a run that is measured here, on the CPU."""

import statistics

import pytest

from launch import plan, preflight
from launch.gpus import Gpu
from tests.pretrain import tiny

TOLERANCE = 4  # factor; this machine may be busy with something else, at any moment
# A CPU core's share of the memory bandwidth, and what large models reach of the ceiling of products
# on the CPU (docs/speed.md: 62%); the products here are smaller.
BANDWIDTH_GB_S, EFFICIENCY = 10, 0.5


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """(recipe file, records) of a run large enough for its products to take most of the time."""
    from data_pipeline.base.recipes import check
    from data_pipeline.loading.order import World
    from data_pipeline.shards.format import Manifest
    from pretrain import run
    from pretrain.encoders.load import build_encoder
    from pretrain.recipe import DistillRecipe
    from pretrain.training import loop
    from pretrain.training.metrics import read_metrics

    root = tiny.make_root(tmp_path_factory.mktemp("measured"))
    config = {"architectures": ["BertModel"], "vocab_size": len(tiny.TOKENS), "pad_token_id": 0}
    teacher = build_encoder({**config, **tiny.sizes(4, 256), "initializer_range": 0.1})
    tiny.write_directory(teacher, root / "large")
    changes = {
        "batch.global_batch_size": 64,
        "batch.relation_group_size": 64,
        "teacher.path": str(root / "large"),
        "teacher.layer": 4,
        "optimizer.total_steps": 8,
        "checkpoint.every_steps": 100,
    }
    values = tiny.distill_values(root, root / "run", **changes)
    values["student"] |= tiny.sizes(3, 192, "relu") | {"layer": 3}
    recipe = check(DistillRecipe, values, "test")
    manifest = Manifest.read(recipe.data.shards)
    assert loop.fit(run.build(recipe, manifest), recipe, manifest, World()) == 0
    records = read_metrics(recipe.output_dir / "metrics.jsonl")
    return tiny.write_recipe(root / "recipe.yaml", values), records[2:]


def test_the_estimate_is_near_a_measured_run(measured, record_property):
    recipe, records = measured
    first = records[0]
    ceiling = first["speed/gflop_per_s"] / first["speed/matmul_ceiling_share"]  # GFLOP/s
    cpu = Gpu(
        memory_gb=8, peak_tflops=ceiling / 1e3, efficiency=EFFICIENCY,
        bandwidth_gb_s=BANDWIDTH_GB_S, link_gb_s=1,
    )  # fmt: skip
    estimate = plan.estimate(preflight.check_recipe(recipe, (), 1).cost, cpu, 1, 1)
    speeds = statistics.median(record["speed/sequences_per_s"] for record in records)
    record_property("estimated_sequences_per_s", estimate.sequences_per_second)
    record_property("measured_sequences_per_s", speeds)
    print(f"{estimate.sequences_per_second:.1f} sequences/s estimated, {speeds:.1f} measured")
    assert speeds / TOLERANCE < estimate.sequences_per_second < speeds * TOLERANCE


def test_the_operations_that_the_run_counts_are_those_of_the_estimate(measured):
    """The run counts padding, the estimate says that it does not. (One batch of all lengths has
    much of it here.)"""
    recipe, records = measured
    counted = [
        record["speed/gflop_per_s"] * 1e9 * 64 / record["speed/sequences_per_s"]
        for record in records
    ]
    real = [n * (1 - r["data/padding_share"]) for n, r in zip(counted, records, strict=True)]
    cost = preflight.check_recipe(recipe, (), 1).cost
    assert statistics.mean(real) == pytest.approx(cost["flops_per_step"], rel=0.1)
