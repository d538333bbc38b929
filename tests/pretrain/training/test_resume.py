"""What a start of a run restores, and what it refuses."""

import copy
import dataclasses
import shutil

import pytest

from data_pipeline.base.errors import UserError
from data_pipeline.base.recipes import check
from data_pipeline.loading.order import State, World
from data_pipeline.shards.format import Manifest
from pretrain import run
from pretrain.encoders import weights
from pretrain.recipe import DistillRecipe
from pretrain.training import checkpoint, parallel, resume
from pretrain.training import optimizer as optimize
from pretrain.training.precision import LossScale
from pretrain.training.saving import CheckpointSaver
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
    with CheckpointSaver(objective, adam, recipe, manifest, World()) as saver:
        saver.save(state)
    return objective, adam, recipe, manifest


def test_a_state_comes_back_whole(saved, capsys):
    state = resume.restore(*saved, World())
    assert state == resume.TrainState(LossScale(8.0, 3, True), 5, 4, 1, State(1, 2, 96))
    message = capsys.readouterr().out
    assert "step-5: resuming from step 5" in message
    assert "last bits" not in message


def test_other_ranks_than_the_first_are_told_and_quiet(saved, capsys, monkeypatch):
    monkeypatch.setattr(parallel, "_gather", lambda values, world: [values] * world.size)
    monkeypatch.setattr(parallel, "from_rank_0", lambda number, world: 5)
    monkeypatch.setattr(resume, "verified_step", lambda *_: pytest.fail("rank 0 alone verifies"))
    assert resume.restore(*saved, World(1, 2)).step == 5
    assert capsys.readouterr().out == ""


def test_another_number_of_ranks_and_other_versions_are_said(saved, capsys, monkeypatch):
    monkeypatch.setattr(parallel, "_gather", lambda values, world: [values] * world.size)
    monkeypatch.setattr(resume, "version", lambda name: "9.9")
    monkeypatch.setenv("FLAGS_something", "1")
    resume.restore(*saved, World(0, 2))
    message = capsys.readouterr().out
    assert "world_size: was 1, is now 2" in message
    assert "numpy: was " in message
    assert "FLAGS_something: was None, is now '1'" in message


@pytest.mark.parametrize("name", resume.BIT_FOR_BIT)
def test_another_environment_is_warned_about(saved, name, monkeypatch, capsys):
    monkeypatch.setenv(name, "77")
    resume.restore(*saved, World())
    message = capsys.readouterr().out
    assert name in message
    assert "77" in message
    assert "the last bits of sums will differ" in message


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


def test_a_rank_that_does_not_see_the_checkpoint_ends_all(saved, monkeypatch):
    monkeypatch.setattr(parallel, "_gather", lambda values, world: [values] * world.size)
    monkeypatch.setattr(parallel, "from_rank_0", lambda number, world: 7)
    with pytest.raises(UserError, match=r"rank 1 does not see this checkpoint.* all nodes share"):
        resume.restore(*saved, World(1, 2))


def test_an_error_of_one_rank_is_the_end_of_all(monkeypatch):
    monkeypatch.setattr(parallel, "_gather", lambda values, world: [[0], [76], [0]])
    with (
        pytest.raises(UserError, match="rank 1 has failed") as caught,
        parallel.fail_together(World(2, 3)),
    ):
        pass
    assert caught.value.exit_code == 76
    monkeypatch.setattr(parallel, "_gather", lambda values, world: [values] * 3)
    with pytest.raises(OSError, match="own"), parallel.fail_together(World(1, 3)):
        raise OSError("own")


def test_a_teacher_is_compared_by_its_weights_not_by_its_path(saved, tiny_root, tmp_path):
    _, adam, recipe, manifest = saved
    moved = shutil.copytree(tiny_root / "teacher", tmp_path / "moved")
    values = tiny.distill_values(tiny_root, recipe.output_dir, **{"teacher.path": str(moved)})
    recipe = check(DistillRecipe, values, "test")
    same = run.build(recipe, manifest)
    assert resume.restore(same, adam, recipe, manifest, World()).step == 5
    tensors = weights.read(moved)
    tensors["encoder.layers.0.linear1.weight"][0, 0] += 1
    weights.write(moved / "model.safetensors", tensors)
    with pytest.raises(UserError, match="teacher: other weights than those it was trained with"):
        resume.restore(run.build(recipe, manifest), adam, recipe, manifest, World())


def test_when_no_checkpoint_is_whole_the_run_stops(saved):
    for path in checkpoint.folder(saved[2].output_dir).glob("step-*/model.safetensors"):
        path.write_bytes(b"damaged")
    with pytest.raises(UserError, match="none of the checkpoints is whole"):
        resume.restore(*saved, World())


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
