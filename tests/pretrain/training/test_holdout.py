"""The loss on samples that are kept out of training."""

import dataclasses

import numpy as np
import paddle
import pytest

from data_pipeline.base.recipes import check
from data_pipeline.loading.holdout import holdout_batches, split
from data_pipeline.loading.order import World
from data_pipeline.shards.format import Manifest, ShardReader
from pretrain import check as checks
from pretrain import run
from pretrain.recipe import DistillRecipe
from pretrain.training import loop
from pretrain.training.holdout import holdout_loss
from pretrain.training.metrics import read_metrics
from tests.pretrain import tiny

CHANGES = {"data.holdout_samples": 14, "monitor.holdout_every_steps": 2, "monitor.loggers": []}


@pytest.fixture
def recipe(tiny_root, tmp_path):
    changes = CHANGES | {"optimizer.total_steps": 5, "student.hidden_dropout_prob": 0.3}
    return check(DistillRecipe, tiny.distill_values(tiny_root, tmp_path / "run", **changes), "test")


def batches_of(shards):
    """The holdout of the recipe above: samples 76 to 87."""
    return holdout_batches(split(shards, Manifest.read(shards), 14, 4), 4)


def test_training_never_sees_it_and_records_its_loss(recipe, monkeypatch):
    seen = set()
    forward_backward = loop.forward_backward

    def noted(trainer, ready, *rest):
        seen.update(*(batch.sample_ids.tolist() for batch in ready.batches))
        return forward_backward(trainer, ready, *rest)

    monkeypatch.setattr(loop, "forward_backward", noted)
    manifest = Manifest.read(recipe.data.shards)
    objective = run.build(recipe, manifest)
    assert loop.fit(objective, recipe, manifest, World()) == 0
    assert len(seen) >= 64 and max(seen) < 76  # 4 of the 5 steps are an epoch of 16 samples
    records = read_metrics(recipe.output_dir / "metrics.jsonl")
    assert [r["step"] for r in records if "holdout/total" in r] == [2, 4, 5]
    batches = batches_of(recipe.data.shards)
    now = holdout_loss(objective, batches, recipe, World())
    assert records[-1]["holdout/total"] == pytest.approx(now["holdout/total"], rel=1e-6)


def test_it_is_the_mean_over_its_groups_without_dropout(recipe):
    objective = run.build(recipe, Manifest.read(recipe.data.shards))
    objective.train()
    batches = batches_of(recipe.data.shards)
    actual = holdout_loss(objective, batches, recipe, World())
    assert actual == holdout_loss(objective, batches, recipe, World())
    assert objective.training
    objective.eval()
    losses = []
    for batch in batches:
        inputs = [paddle.to_tensor(x) for x in (batch.input_ids, batch.attention_mask)]
        loss, _ = objective(*inputs, *objective.targets(*inputs))
        losses.append(float(loss))
    assert actual["holdout/total"] == pytest.approx(np.mean(losses), rel=1e-6)


def test_ranks_share_its_groups(recipe, monkeypatch):
    objective = run.build(recipe, Manifest.read(recipe.data.shards))
    batches = batches_of(recipe.data.shards)
    whole = holdout_loss(objective, batches, recipe, World())
    parts = []
    monkeypatch.setattr(
        paddle.distributed,
        "all_gather_object",
        lambda by_rank, part: parts.append(part) or by_rank.extend(parts),
    )
    holdout_loss(objective, batches, recipe, World(0, 2))
    shared = holdout_loss(objective, batches, recipe, World(1, 2))
    assert shared == pytest.approx(whole, rel=1e-6)


def test_a_holdout_of_less_than_a_group_or_of_nearly_all_is_a_problem(tiny_root, tmp_path):
    def problems(samples):
        changes = {"data.holdout_samples": samples}
        values = tiny.distill_values(tiny_root, tmp_path / "run", **changes)
        return checks.problems(check(DistillRecipe, values, "test"), 1)

    assert problems(8) == []
    (problem,) = problems(3)
    assert "data.holdout_samples: 3 is less than one relation group of 4" in problem
    (problem,) = problems(80)
    assert "holds 8 samples without the holdout of 80" in problem


def test_a_window_grows_with_the_global_batch(tiny_root, tmp_path):
    """A few batches in a window would be of one length each."""

    def window(**changes):
        values = tiny.distill_values(tiny_root, tmp_path / "run", **changes)
        return check(DistillRecipe, values, "test").window_samples()

    assert window() == 48  # as the recipe says
    assert window(**{"data.window_samples": None}) == 65536
    large = {"batch.global_batch_size": 4096, "data.window_samples": None}
    assert window(**large) == 64 * 4096


def test_held_out_documents_of_the_build_are_used_where_there_are_any(tiny_root, tmp_path):
    shards = tiny.make_shards(tmp_path / "shards")
    tiny.make_shards(shards / "holdout", seed=1)
    changes = CHANGES | {"data.shards": str(shards), "optimizer.total_steps": 4}
    values = tiny.distill_values(tiny_root, tmp_path / "run", **changes)
    recipe, manifest = check(DistillRecipe, values, "test"), Manifest.read(shards)
    objective = run.build(recipe, manifest)
    held = loop.open_session(objective, recipe, manifest, World())
    assert held.loader.samples == 88
    ids = ShardReader(shards / "holdout").read(held.holdout[0].sample_ids[:1])[0][0]
    assert held.holdout[0].input_ids[0, : len(ids)].tolist() == ids.tolist()
    assert sum(len(batch.sample_ids) for batch in held.holdout) == 12


def test_held_out_documents_that_cannot_be_used_are_a_problem(tiny_root, tmp_path):
    shards = tiny.make_shards(tmp_path / "shards")
    aside = tiny.make_shards(shards / "holdout", seed=1)
    changes = {"data.shards": str(shards), "data.holdout_samples": 96}
    values = tiny.distill_values(tiny_root, tmp_path / "run", **changes)

    def problems():
        return checks.problems(check(DistillRecipe, values, "test"), 1)

    assert problems() == []  # 88 are there, and all of the shards is trained on
    manifest = Manifest.read(aside)
    dataclasses.replace(manifest, samples=3).write(aside)
    (problem,) = problems()
    assert "holdout holds less than one relation group of 4" in problem
    manifest.write(aside)
    (aside / manifest.shards[0].file).unlink()
    (problem,) = problems()
    assert "shard-00000.h5 is not there" in problem
    (aside / "manifest.json").write_text("{}")
    (problem,) = problems()
    assert "holdout/manifest.json: not a shard manifest" in problem
