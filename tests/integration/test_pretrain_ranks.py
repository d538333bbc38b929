"""Real ranks that are killed, stopped and started again."""

import hashlib
import json
import os
import signal
import time

import pytest

from pretrain import checkpoint
from pretrain.monitor import read_metrics
from tests.pretrain import tiny

pytestmark = pytest.mark.ranks
TIMES = ("speed/", "time/", "memory/")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("ranks")
    tiny.make_shards(root / "shards")
    tiny.make_teacher(root / "teacher")
    return root


class Run:
    """One output directory and the processes that fill it."""

    def __init__(self, root, name, **changes):
        self.output, self.log = root / name, root / f"{name}-log"
        values = tiny.distill_values(root, self.output, **changes)
        self.recipe = tiny.write_recipe(root / f"{name}.yaml", values)

    def start(self, ranks):
        return tiny.start("run.py", self.recipe, ranks, self.log)

    def finish(self, ranks):
        code = tiny.finish(self.start(ranks))
        assert code == 0, self.said()
        return self

    def wait_for_step(self, step, process):
        """Until the record of this step is written."""
        deadline = time.monotonic() + 120
        while not any(r["step"] >= step for r in read_metrics(self.output / "metrics.jsonl")):
            assert process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.005)

    def kill_at(self, step, ranks):
        """Start, and kill -9 everything once the record of this step is written."""
        process = self.start(ranks)
        self.wait_for_step(step, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return self

    def ranks_of(self, process):
        """Process ids of the ranks under a launcher."""
        children = f"/proc/{process.pid}/task/{process.pid}/children"
        with open(children, encoding="ascii") as file:  # noqa: PTH123
            return [int(word) for word in file.read().split()]

    def said(self):
        return "\n".join(path.read_text()[-3000:] for path in sorted(self.log.iterdir()))

    def metrics(self):
        """Records without what depends on the clock."""
        return [
            {k: v for k, v in record.items() if not k.startswith(TIMES)}
            for record in read_metrics(self.output / "metrics.jsonl")
        ]

    def outcome(self):
        """Digests of the final weights and moments, and all records."""
        last = self.output / "checkpoints" / "step-14"
        files = {
            name: hashlib.sha256((last / name).read_bytes()).hexdigest()
            for name in ("model.safetensors", "optimizer.safetensors")
        }
        return files, self.metrics()


@pytest.fixture(scope="module")
def straight(root):
    """Uninterrupted runs of 14 steps: nearly three epochs of 5, each of 3 shards and 2 windows."""
    return {ranks: Run(root, f"straight-{ranks}").finish(ranks) for ranks in (1, 2)}


@pytest.mark.parametrize("ranks", [1, 2])
def test_killed_twice_in_a_row_equals_straight_to_the_bit(root, straight, ranks):
    # Saved at each second step. Steps 3 and 8 lie in the middle of shards and windows; between
    # them, and after them, an epoch ends.
    run = Run(root, f"killed-{ranks}")
    run.kill_at(3, ranks)
    assert checkpoint.newest(run.output / "checkpoints").step < 14
    run.kill_at(8, ranks)
    assert run.finish(ranks).outcome() == straight[ranks].outcome()
    steps = [record["step"] for record in run.metrics()]
    assert steps == list(range(1, 15))


def test_other_numbers_of_ranks_train_on_the_same_groups(root, straight):
    run = Run(root, "changing")
    run.kill_at(3, 1)
    run.kill_at(7, 2)
    mixed, single = run.finish(1).metrics(), straight[1].metrics()
    double = straight[2].metrics()
    for other in (mixed, double):
        for a, b in zip(other, single, strict=True):
            for name in ("loss/total", "loss/q", "loss/k", "loss/v", "optim/grad_norm"):
                assert a[name] == pytest.approx(b[name], rel=1e-4), (a["step"], name)
            assert a["data/padding_share"] == pytest.approx(b["data/padding_share"])


def test_visualdl_goes_on_without_overlap(root, straight):
    from visualdl import LogReader

    for run in (straight[1], Run(root, "killed-1")):
        (file,) = (run.output / "vdl").iterdir()
        reader = LogReader(file_path=str(file))
        steps = [point.id for point in reader.get_data("scalar", "loss/total")]
        assert steps == list(range(1, 15))


def test_a_finished_run_says_so_and_a_changed_recipe_is_refused(root, straight):
    assert tiny.finish(straight[1].start(1)) == 0
    assert "finished before; nothing to do" in straight[1].said()
    changed = Run(root, "straight-1", **{"optimizer.total_steps": 20, "relations.beta": 0.25})
    assert tiny.finish(changed.start(1)) == 2
    said = changed.said()
    assert "optimizer.total_steps: was 14, is now 20" in said
    assert "relations.beta: was 0.5, is now 0.25" in said
    assert "Traceback" not in said


def test_sigterm_to_one_rank_saves_and_ends_all(root, straight):
    run = Run(root, "stopped", **{"checkpoint.every_steps": 1000})
    process = run.start(2)
    run.wait_for_step(2, process)
    os.kill(run.ranks_of(process)[-1], signal.SIGTERM)
    assert tiny.finish(process) == 75, run.said()
    assert 2 <= checkpoint.newest(run.output / "checkpoints").step < 14
    assert "saved at step" in run.said()
    files, metrics = run.finish(2).outcome()
    assert (files, metrics) == straight[2].outcome()


def test_a_lost_rank_ends_the_job_and_a_supervisor_brings_it_back(root, straight):
    run = Run(root, "lost")
    process = run.start(2)
    run.wait_for_step(5, process)
    os.kill(run.ranks_of(process)[-1], signal.SIGKILL)
    assert tiny.finish(process) not in (0, 2, 75, 76)
    assert json.loads((straight[2].output / "finished.json").read_text())["step"] == 14
    assert run.finish(2).outcome() == straight[2].outcome()


def test_a_rank_that_hangs_is_reported_with_stacks(root):
    run = Run(root, "hung", **{"safety.hang_seconds": 5})
    process = run.start(2)
    run.wait_for_step(2, process)
    os.kill(run.ranks_of(process)[-1], signal.SIGSTOP)
    assert tiny.finish(process) not in (0, 2, 75, 76)
    said = run.said()
    assert "Timeout" in said
    assert "train_step" in said or "any_rank" in said
