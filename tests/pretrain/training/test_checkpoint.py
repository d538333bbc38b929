"""A checkpoint is whole or does not count, wherever its writer is killed."""

import json
import os
import resource
import signal

import numpy as np
import paddle
import pytest
from paddle import nn

from data_pipeline.base.errors import UserError
from pretrain.training import checkpoint
from tests.pretrain.training.children import in_a_child, killed_at


class Trained:
    """A little layer and its optimiser after some steps."""

    def __init__(self, steps=1, scale=1.0):
        paddle.seed(0)
        self.layer = nn.Linear(3, 2)
        self.adam = paddle.optimizer.AdamW(0.1, parameters=self.layer.parameters())
        for _ in range(steps):
            (self.layer(paddle.ones([1, 3])) * scale).sum().backward()
            self.adam.step()
            self.adam.clear_grad()

    def save(self, folder, step):
        moments = checkpoint.optimizer_tensors(self.layer, self.adam)
        taken = checkpoint.snapshot(step, self.layer.state_dict(), moments, {"step": step})
        checkpoint.begin(folder, step)
        checkpoint.write_moments(folder, taken)
        return checkpoint.commit(folder, taken)


def test_kill_9_before_any_operation_of_the_writer_leaves_the_older_checkpoint(tmp_path):
    old, new = Trained(1), Trained(2)
    old.save(tmp_path, 1)
    operation, newest = 1, []
    while killed_at(operation, lambda: new.save(tmp_path, 2)):
        actual = checkpoint.newest(tmp_path)
        newest.append(actual.step)
        fresh = Trained(0)
        assert checkpoint.load(actual, fresh.layer, fresh.adam) == {"step": actual.step}
        if actual.step == 2:  # renamed already: begin again, to reach the later operations
            checkpoint.retain(tmp_path, 1, 0)
            old.save(tmp_path, 1)
            for path in (tmp_path / "step-2").iterdir():
                path.unlink()
            (tmp_path / "step-2").rmdir()
        operation += 1
    assert operation > 20
    assert newest == sorted(newest)  # once there, it stays
    assert set(newest) == {1, 2}
    assert checkpoint.newest(tmp_path).step == 2


def test_kill_9_before_any_operation_of_retention_leaves_the_newest(tmp_path):
    trained, operation = Trained(), 1
    while True:
        for step in (1, 2, 3):
            trained.save(tmp_path, step)
        if not killed_at(operation, lambda: checkpoint.retain(tmp_path, 1, 0)):
            break
        assert checkpoint.newest(tmp_path).step == 3
        for actual in checkpoint.complete(tmp_path):
            assert not checkpoint.damaged(actual)
        operation += 1
    assert operation > 4
    assert [actual.step for actual in checkpoint.complete(tmp_path)] == [3]
    assert [path.name for path in tmp_path.iterdir()] == ["step-3"]


@pytest.mark.parametrize("limit", [0, 100, 500])
def test_a_full_disk_is_said_and_leaves_the_older_checkpoint(tmp_path, limit):
    trained = Trained()
    trained.save(tmp_path, 1)

    def child():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            trained.save(tmp_path, 2)
        except UserError as error:
            if "step-2: cannot be written" in str(error):
                os._exit(42)

    assert os.waitstatus_to_exitcode(in_a_child(child)) == 42
    assert checkpoint.newest(tmp_path).step == 1
    assert [path.name for path in tmp_path.iterdir()] == ["step-1"]


def test_weights_and_moments_come_back_to_the_bit(tmp_path):
    one, other = Trained(3), Trained(0)
    one.save(tmp_path, 3)
    checkpoint.load(checkpoint.newest(tmp_path), other.layer, other.adam)
    for trained in (one, other):
        (trained.layer(paddle.ones([1, 3])) ** 2).sum().backward()
        trained.adam.step()
    for x, y in zip(one.layer.parameters(), other.layer.parameters(), strict=True):
        assert (x.numpy() == y.numpy()).all()


@pytest.mark.parametrize("name", checkpoint.FILES)
@pytest.mark.parametrize("how", ["flip", "cut", "remove"])
def test_a_damaged_checkpoint_is_named_and_passed_over(tmp_path, name, how):
    for step in (1, 2):
        Trained(step).save(tmp_path, step)
    path = tmp_path / "step-2" / name
    content = bytearray(path.read_bytes())
    if how == "flip":
        content[len(content) // 2] ^= 1
    path.write_bytes(content[:-1] if how == "cut" else content)
    if how == "remove":
        path.unlink()
    message = []
    assert checkpoint.newest(tmp_path, message.append).step == 1
    assert len(message) == 1
    assert name in message[0]
    assert "step-2" in message[0]


def test_a_marker_that_is_not_json_does_not_count(tmp_path):
    for step in (1, 2):
        Trained(step).save(tmp_path, step)
    (tmp_path / "step-2" / checkpoint.MARKER).write_text("{", encoding="utf-8")
    assert checkpoint.newest(tmp_path, lambda _: None).step == 1


def test_retention_keeps_the_last_and_the_multiples(tmp_path):
    trained = Trained()
    for step in range(1, 8):
        trained.save(tmp_path, step)
    checkpoint.retain(tmp_path, keep_last=2, keep_every=3)
    assert [actual.step for actual in checkpoint.complete(tmp_path)] == [3, 6, 7]
    checkpoint.retain(tmp_path, keep_last=1, keep_every=0)
    assert [actual.step for actual in checkpoint.complete(tmp_path)] == [7]


def test_other_names_than_a_layers_are_refused(tmp_path):
    Trained().save(tmp_path, 1)
    other = nn.Linear(3, 4)
    adam = paddle.optimizer.AdamW(0.1, parameters=other.parameters())
    with pytest.raises(UserError, match="of another shape"):
        checkpoint.load(checkpoint.newest(tmp_path), other, adam)


def test_the_marker_records_what_was_written(tmp_path):
    path = Trained().save(tmp_path, 1)
    files = json.loads((path / checkpoint.MARKER).read_text(encoding="utf-8"))["files"]
    assert set(files) == set(checkpoint.FILES)
    for name, entry in files.items():
        assert (path / name).stat().st_size == entry["bytes"]
    assert np.isfinite(Trained().layer.weight.numpy()).all()
