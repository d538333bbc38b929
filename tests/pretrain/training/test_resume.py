"""What a start of a run restores, and what it refuses."""

import copy
import dataclasses

import pytest

from data_pipeline.base.errors import UserError
from data_pipeline.base.recipes import check
from data_pipeline.loading.order import State, World
from data_pipeline.shards.format import Manifest
from pretrain import run
from pretrain.recipe import DistillRecipe
from pretrain.training import optimizer as optimize
from pretrain.training import parallel, resume
from pretrain.training.precision import LossScale
from tests.pretrain import tiny


@pytest.fixture
def saved(tiny_root, tmp_path):
    """(objective, optimiser, recipe, manifest) of a run with a checkpoint of step 5."""
    recipe = check(DistillRecipe, tiny.distill_values(tiny_root, tmp_path / "run"), "test")
    manifest = Manifest.read(recipe.data.shards)
    objective = run.build(recipe, manifest)
    adam = optimize.build_optimizer(objective, recipe.optimizer)
    scale = LossScale(8.0, 3, True)
    state = resume.TrainState(scale, 5, 4, 1, State(1, 2, 96))
    resume.save(objective, adam, recipe, manifest, World(), state)
    return objective, adam, recipe, manifest


def test_a_state_comes_back_whole(saved, capsys):
    state = resume.restore(*saved, World())
    assert state == resume.TrainState(LossScale(8.0, 3, True), 5, 4, 1, State(1, 2, 96))
    said = capsys.readouterr().out
    assert "step-5: resuming from step 5" in said
    assert "last bits" not in said


def test_other_ranks_than_the_first_are_quiet(saved, capsys, monkeypatch):
    monkeypatch.setattr(parallel, "_gather", lambda values, world: [values] * world.size)
    resume.restore(*saved, World(1, 2))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", resume.BIT_FOR_BIT)
def test_another_environment_is_warned_about(saved, name, monkeypatch, capsys):
    monkeypatch.setenv(name, "77")
    resume.restore(*saved, World())
    said = capsys.readouterr().out
    assert name in said
    assert "77" in said
    assert "the last bits of sums will differ" in said


CHANGES = {
    "seed": 1,
    "batch.relation_group_size": 8,
    "batch.global_batch_size": 32,
    "batch.groups_per_micro_batch": 2,
    "data.window_samples": 24,
    "teacher.layer": 1,
    "student.hidden_dropout_prob": 0.0,
    "relations.heads": 2,
    "optimizer.learning_rate": 1.0,
    "precision.dtype": "bfloat16",
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_recipe_is_refused_and_named(saved, tiny_root, name):
    objective, adam, recipe, manifest = saved
    values = tiny.distill_values(tiny_root, recipe.output_dir, **{name: CHANGES[name]})
    changed = check(DistillRecipe, values, "test")
    with pytest.raises(UserError, match=f"{name}: was .*, is now {CHANGES[name]!r}") as caught:
        resume.restore(objective, adam, changed, manifest, World())
    assert "another output_dir" in str(caught.value)


def test_what_only_changes_how_a_run_is_done_may_change(saved, tiny_root):
    objective, adam, recipe, manifest = saved
    free = {
        "data.workers": 0,
        "checkpoint.every_steps": 3,
        "monitor.log_every_steps": 7,
        "safety.hang_seconds": 3,
    }
    values = tiny.distill_values(tiny_root, recipe.output_dir, **free)
    changed = check(DistillRecipe, values, "test")
    assert resume.restore(objective, adam, changed, manifest, World()).step == 5


def test_other_shards_and_another_vocabulary_are_refused_and_named(saved):
    objective, adam, recipe, manifest = saved
    shards = copy.deepcopy(manifest.shards)
    shards[0] = dataclasses.replace(shards[0], sha256="0" * 64)
    for change, words in (
        ({"shards": shards}, "other shards than those it was trained on"),
        ({"vocab_sha256": "0" * 64}, "vocab.txt: another vocabulary"),
    ):
        other = dataclasses.replace(manifest, **change)
        with pytest.raises(UserError, match=words):
            resume.restore(objective, adam, recipe, other, World())


def test_ranks_that_see_other_checkpoints_end(saved, monkeypatch):
    monkeypatch.setattr(parallel, "_gather", lambda values, world: [values, [-1]])
    with pytest.raises(UserError, match="all nodes share"):
        resume.restore(*saved, World(0, 2))


def test_one_process_at_a_time_writes_a_run(tmp_path):
    with (
        resume.lock(tmp_path),
        pytest.raises(UserError, match="another process"),
        resume.lock(tmp_path, seconds=0.2),
    ):
        pytest.fail("locked twice")
    with resume.lock(tmp_path, seconds=0.0):  # released
        pass


def test_a_directory_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with (
        pytest.raises(UserError, match=r"output_dir: .* cannot be written"),
        resume.lock(tmp_path / "file" / "run"),
    ):
        pytest.fail("locked")


def test_a_file_system_without_locks_is_said_and_used(tmp_path, monkeypatch, capsys):
    def flock(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(resume.fcntl, "flock", flock)
    with resume.lock(tmp_path):
        assert "cannot be locked" in capsys.readouterr().out
