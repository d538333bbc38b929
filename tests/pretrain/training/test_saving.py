"""Checkpoints written in the background: the same bytes, complete or absent, errors not lost."""

import json
import os
import resource
import signal
import threading

import paddle
import pytest
from paddle import nn

from data_pipeline.base.errors import UserError
from data_pipeline.base.recipes import check
from data_pipeline.loading.order import World
from data_pipeline.shards.format import Manifest
from pretrain.encoders import weights
from pretrain.recipe import DistillRecipe
from pretrain.training import checkpoint
from pretrain.training.precision import LossScale
from pretrain.training.resume import TrainState
from pretrain.training.saving import CheckpointSaver
from tests.pretrain import tiny
from tests.pretrain.training.children import in_a_child, killed_at


class Trained:
    """A little layer with its optimiser, and the saver of its run."""

    def __init__(self, manifest, output_dir, mode, steps=1):
        paddle.seed(0)
        self.layer = nn.Linear(3, 2)
        self.layer.identity = {}
        self.adam = paddle.optimizer.AdamW(0.1, parameters=self.layer.parameters())
        self.train(steps)
        changes = {"checkpoint.async_mode": mode, "checkpoint.keep_last": 9}
        values = tiny.distill_values(output_dir, output_dir, **changes)
        recipe = check(DistillRecipe, values, "test")
        self.saver = CheckpointSaver(self.layer, self.adam, recipe, manifest, World())
        self.folder = self.saver.folder

    def train(self, steps=1):
        for _ in range(steps):
            self.layer(paddle.ones([1, 3])).sum().backward()
            self.adam.step()
            self.adam.clear_grad()

    def save(self, step):
        self.saver.save(TrainState(LossScale(), step=step))


@pytest.fixture
def trained(tiny_root, tmp_path):
    """A function that makes one, in a run of its own by name."""
    manifest = Manifest.read(tiny_root / "shards")

    def make(name="run", mode="async", steps=1):
        return Trained(manifest, tmp_path / name, mode, steps)

    return make


@pytest.fixture
def gate(monkeypatch):
    """An event without which no tensors are written."""
    opened, write = threading.Event(), weights.write

    def waiting(*arguments):
        assert opened.wait(60)
        write(*arguments)

    monkeypatch.setattr(weights, "write", waiting)
    return opened


def files(folder, step):
    content = {path.name: path.read_bytes() for path in (folder / f"step-{step}").iterdir()}
    state = json.loads(content.pop("state.json"))
    content.pop("complete.json")  # it has the digest of state.json
    return content, {k: v for k, v in state.items() if k != "recipe"}


def test_the_background_writes_the_bytes_of_the_foreground(trained):
    one, other = trained("one", "disabled"), trained("other", "async")
    for run in (one, other):
        with run.saver:
            run.save(1)
            run.train()
            run.save(2)
    for step in (1, 2):
        assert files(one.folder, step) == files(other.folder, step)
        assert not checkpoint.damaged(
            checkpoint.SavedCheckpoint(step, other.folder / f"step-{step}")
        )
    assert files(one.folder, 1) != files(one.folder, 2)


def test_training_goes_on_and_does_not_change_what_is_written(trained, gate):
    expected = trained("expected", steps=2)
    run = trained(steps=2)
    with run.saver:
        run.save(2)  # returns although nothing can be written
        assert checkpoint.complete(run.folder) == []
        run.train(3)
        gate.set()
        run.saver.wait()
        assert checkpoint.newest(run.folder).step == 2
    with expected.saver:
        expected.save(2)
    assert files(run.folder, 2) == files(expected.folder, 2)


def test_one_checkpoint_is_written_at_a_time(trained, gate):
    run = trained()
    with run.saver:
        run.save(1)
        threading.Timer(0.2, gate.set).start()
        run.save(2)  # waits for the first
        assert [saved.step for saved in checkpoint.complete(run.folder)][:1] == [1]
    assert checkpoint.newest(run.folder).step == 2


def test_what_is_being_written_is_finished_when_training_ends_with_an_error(trained, gate):
    run = trained()
    with pytest.raises(ZeroDivisionError), run.saver:
        run.save(1)
        gate.set()
        raise ZeroDivisionError
    assert checkpoint.newest(run.folder).step == 1


def test_a_full_disk_in_the_background_fails_the_next_wait_and_leaves_the_older_one(trained):
    run = trained()

    def child():
        run.save(1)
        run.saver.wait()
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        run.save(2)
        for part in run.saver._writing:
            part.exception(60)
        try:
            assert run.saver.failed
            run.save(3)
        except UserError as error:
            if "step-2: cannot be written" in str(error):
                os._exit(42)

    assert os.waitstatus_to_exitcode(in_a_child(child)) == 42
    assert [path.name for path in run.folder.iterdir()] == ["step-1"]


def test_kill_9_at_any_operation_of_the_background_leaves_the_older_checkpoint(trained):
    run, newest, operation = trained(), [], 1

    def child(step):
        with run.saver:
            run.save(step)
            run.train()

    assert not killed_at(0, lambda: child(1))
    while killed_at(operation, lambda: child(2)):
        saved = checkpoint.newest(run.folder)
        newest.append(saved.step)
        if saved.step == 2:
            break
        operation += 3  # each one: test_checkpoint.py
    assert operation > 20
    assert set(newest) == {1, 2}
