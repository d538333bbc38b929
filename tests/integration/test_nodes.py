"""Two nodes with own addresses and names: they meet by a name, survive the loss of one for a minute
and end together. The result is that of one node with as many ranks."""

import subprocess
import sys
import time

import psutil
import pytest

from data_pipeline.base import exits
from pretrain.encoders import weights
from pretrain.training import checkpoint
from tests.integration import namespaces
from tests.integration.ranks import Run, digest
from tests.pretrain import tiny

REASON = namespaces.why_not()
pytestmark = [
    pytest.mark.ranks,
    pytest.mark.skipif(bool(REASON), reason=REASON or "-"),
]
STEPS = 80
SETTINGS = {
    "optimizer.total_steps": STEPS,
    "checkpoint.every_steps": 10,
    "safety.hang_seconds": 600,
}


@pytest.fixture
def machines():
    with namespaces.TwoMachines() as made:
        yield made


class Nodes:
    """`python -m launch` of one run on two machines, one rank on each."""

    def __init__(self, machines, run, master="node-a"):
        self.machines, self.run = machines, run
        self.master = f"{master}:29671"
        self.logs = [run.output_dir.parent / f"{run.output_dir.name}-node-{n}.log" for n in (0, 1)]

    def start(self, number, *options):
        command = [sys.executable, "-W", "ignore", "-m", "launch", str(self.run.recipe)]
        command += ["--nnodes", "2", "--nproc_per_node", "1", "--node_rank", str(number)]
        command += ["--master", self.master, "--rejoin_seconds", "300", *options]
        settings = {"PYTHONPATH": str(tiny.ROOT), "OMP_NUM_THREADS": "1"}
        settings["MKL_DEBUG_CPU_TYPE"] = "5"
        return self.machines.start(number, command, self.logs[number], **settings)

    def output(self, number=None):
        logs = self.logs if number is None else [self.logs[number]]
        ranks = sorted((self.run.output_dir / "log").rglob("workerlog.*"))
        return "\n".join(
            p.read_text(errors="replace")[-5000:] for p in [*logs, *ranks] if p.exists()
        )

    def wait_for(self, condition, *processes, seconds=300):
        deadline = time.monotonic() + seconds
        while not condition():
            assert all(process.poll() is None for process in processes), self.output()
            assert time.monotonic() < deadline, self.output()
            time.sleep(0.05)

    def end(self, *processes, seconds=400):
        return [tiny.finish(process, seconds) for process in processes]


def result(run):
    """Step, weights and moments of the newest checkpoint."""
    last = checkpoint.newest(run.output_dir / "checkpoints")
    tensors = {}
    for path in sorted(last.path.glob("*.safetensors")):
        tensors |= weights.read(path)
    return last.step, digest(tensors)


def kill_machine(process):
    """All processes of a machine end at once, as at a power failure."""
    family = [process, *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        member.kill()
    process.wait()
    psutil.wait_procs(family[1:], timeout=20)


@pytest.mark.timeout(900)
def test_a_node_that_is_away_for_a_minute_changes_nothing_in_the_result(root, machines):
    one = Run(root, "one-node", **SETTINGS)
    assert tiny.finish(one.start(2), 400) == 0, one.output()
    run = Run(root, "two-nodes", **SETTINGS)
    nodes = Nodes(machines, run)
    first, second = nodes.start(0), nodes.start(1)
    nodes.wait_for(lambda: run.last_step() >= 15, first, second)
    kill_machine(second)
    waiting = "1 of 2 nodes have joined; waiting for node(s) 1"
    nodes.wait_for(lambda: nodes.output(0).count(waiting) >= 2, first)  # one message in 30 s
    second = nodes.start(1)
    assert nodes.end(first, second) == [0, 0], nodes.output()
    assert result(run) == result(one)
    assert run.metrics() == one.metrics()
    for number in (0, 1):
        assert (run.output_dir / "log" / f"node-{number}" / "workerlog.0").is_file()


@pytest.mark.timeout(600)
def test_the_first_node_may_be_lost_too(root, machines):
    run = Run(root, "first-lost", **SETTINGS)
    nodes = Nodes(machines, run)
    first, second = nodes.start(0), nodes.start(1)
    nodes.wait_for(lambda: run.last_step() >= 15, first, second)
    kill_machine(first)
    nodes.wait_for(lambda: "lost node 0" in nodes.output(1), second)
    first = nodes.start(0)
    assert nodes.end(first, second) == [0, 0], nodes.output()
    assert checkpoint.newest(run.output_dir / "checkpoints").step == STEPS


@pytest.mark.timeout(600)
def test_sigterm_on_one_node_saves_and_ends_both_with_75(root, machines):
    run = Run(root, "nodes-stopped", **(SETTINGS | {"optimizer.total_steps": 100000}))
    nodes = Nodes(machines, run)
    first, second = nodes.start(0), nodes.start(1)
    nodes.wait_for(lambda: run.last_step() >= 5, first, second)
    supervisor = psutil.Process(second.pid)
    supervisor.terminate()
    assert nodes.end(first, second) == [exits.SAVED_AND_STOPPED] * 2, nodes.output()
    assert checkpoint.newest(run.output_dir / "checkpoints").step >= 5


@pytest.mark.timeout(600)
def test_a_full_disk_ends_both_nodes_with_the_same_sentences(root, machines):
    """It is met by the ranks that write; the other node must not wait for them for ever."""
    run = Run(root, "nodes-full", **SETTINGS)
    folder = run.output_dir / "checkpoints"
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], check=True)
    try:
        nodes = Nodes(machines, run)
        ends = nodes.end(nodes.start(0), nodes.start(1))
        assert ends == [exits.USER_ERROR] * 2, nodes.output()
        for number in (0, 1):
            assert "cannot be written" in nodes.logs[number].read_text()
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_nodes_with_different_recipes_end_together_before_a_rank_starts(root, machines):
    run = Run(root, "nodes-differ", **SETTINGS)
    nodes = Nodes(machines, run)
    first, second = nodes.start(0), nodes.start(1, "--seed", "5")
    assert nodes.end(first, second) == [exits.USER_ERROR] * 2, nodes.output()
    for number in (0, 1):
        assert "node 1 (node-b): was started with another recipe than node 0" in nodes.output(
            number
        )
    assert not (run.output_dir / "log").exists()


def test_waiting_for_a_node_that_never_comes_is_bounded(root, machines):
    run = Run(root, "nodes-alone", **SETTINGS)
    nodes = Nodes(machines, run)
    ends = nodes.end(nodes.start(0, "--join_seconds", "4"))
    assert ends == [exits.UNREACHABLE], nodes.output()
    assert "node(s) 1 did not come in time" in nodes.output(0)
    ends = nodes.end(nodes.start(1, "--join_seconds", "4"))
    assert ends == [exits.UNREACHABLE], nodes.output()
    assert "node 0 at node-a:29671 did not answer within 4 s" in nodes.output(1)
