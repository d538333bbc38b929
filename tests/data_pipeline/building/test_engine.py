import contextlib
import os
import signal
import time
from pathlib import Path

import pytest

from data_pipeline.base.errors import UserError
from data_pipeline.building import engine
from data_pipeline.building.build import build
from data_pipeline.building.local_engine import Workers
from data_pipeline.recipe import Run


def double(number):
    if number == 13:
        raise UserError("thirteen", exit_code=7)
    return {"doubled": 2 * number, "process": os.getpid()}


@pytest.mark.parametrize("workers", [1, 2])
def test_local_engines_run_every_call_once(workers):
    with engine.start(Run(workers=workers)) as (execute, _):
        found = dict(execute(double, range(12)))
    assert {i: result["doubled"] for i, result in found.items()} == {i: 2 * i for i in range(12)}
    here = {result["process"] for result in found.values()} == {os.getpid()}
    assert here == (workers == 1)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_user_error_keeps_its_message_and_code(workers):
    with engine.start(Run(workers=workers)) as (execute, _):  # noqa: SIM117
        with pytest.raises(UserError, match="thirteen") as caught:
            list(execute(double, range(20)))
    assert caught.value.exit_code == 7


@pytest.mark.ranks
def test_dask_with_two_processes_one_of_which_is_killed(corpus, recipe, tmp_path, monkeypatch):
    """A real cluster: scheduler and workers are processes of their own, reached by address."""
    from dask.distributed import Client, LocalCluster

    sections = {"sources": [{"path": str(corpus)}] * 4, "dedup": {"near": True}, "piece_mb": 0.1}
    expected = build(recipe(output_dir=str(tmp_path / "local"), **sections), quiet=True)
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        made = recipe(**sections, run={"engine": "dask", "scheduler": cluster.scheduler_address})
        with Client(cluster) as client:
            pids = list(client.run(os.getpid).values())
        assert len(set(pids)) == 2 and os.getpid() not in pids
        killed = []

        original = engine.start_dask

        def killing(*arguments):
            return _killing(original, pids[0], killed, *arguments)

        monkeypatch.setattr(engine, "start_dask", killing)
        found = build(made, quiet=True)
    assert killed == [pids[0]]
    assert found.fingerprint == expected.fingerprint
    assert found.counters == expected.counters


@contextlib.contextmanager
def _killing(original, pid, killed, *arguments):
    """The Dask engine, but that one worker is killed after the third result."""
    with original(*arguments) as (execute, memory):

        def killing_execute(function, tasks):
            for number, result in enumerate(execute(function, tasks)):
                if number == 2 and not killed:
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
                yield result

        yield Workers(killing_execute, memory)


@pytest.mark.ranks
def test_dask_starts_a_cluster_of_its_own(corpus, recipe, capfd):
    made = recipe(sources=[{"path": str(corpus)}], run={"engine": "dask", "workers": 2})
    assert build(made, quiet=True).samples > 1000
    assert capfd.readouterr() == ("", "")  # scheduler and workers say nothing of their own


@pytest.fixture
def small_cluster():
    """A function that starts a Dask worker with some threads in this process; its address."""
    from dask.distributed import LocalCluster

    with contextlib.ExitStack() as stack:

        def start(threads: int, memory: str = "auto") -> str:
            cluster = LocalCluster(
                n_workers=1,
                threads_per_worker=threads,
                memory_limit=memory,
                processes=False,
                dashboard_address=None,
            )
            return stack.enter_context(cluster).scheduler_address

        yield start


def test_dask_workers_with_threads_are_refused(small_cluster):
    run = Run(engine="dask", scheduler=small_cluster(2))
    with (
        pytest.raises(UserError, match=r"1 of 1 Dask workers have several threads .*--nthreads 1"),
        engine.start(run),
    ):
        pass


@pytest.mark.parametrize(("limit", "expected"), [("300MB", 300_000_000), ("0", 1 << 33)])
def test_memory_is_that_of_the_dask_workers(small_cluster, monkeypatch, limit, expected):
    """Not that of the machine from which the build is started, unless they have no limit."""
    monkeypatch.setattr(engine, "memory_bytes", lambda: 1 << 34)
    run = Run(engine="dask", scheduler=small_cluster(1, limit), workers=2)
    with engine.start(run) as workers:
        assert workers.memory_bytes == expected


STARTED: list[int] = []


def fail_at_zero(number):
    if number == 0:
        raise UserError("zero")
    STARTED.append(number)
    time.sleep(0.02)  # so that most are waiting when the first has failed
    return {"number": number}


def test_tasks_of_a_failed_dask_step_are_cancelled(small_cluster):
    """One that was left would be done before the task that comes after."""
    STARTED.clear()
    with engine.start(Run(engine="dask", scheduler=small_cluster(1))) as (execute, _):
        with pytest.raises(UserError, match="zero"):
            list(execute(fail_at_zero, range(300)))
        assert list(execute(fail_at_zero, [300])) == [(0, {"number": 300})]
    assert STARTED[-1] == 300 and len(STARTED) < 250


def test_an_absent_scheduler_is_named(corpus, recipe):
    import dask

    run = {"engine": "dask", "scheduler": "tcp://127.0.0.1:9"}
    made = recipe(sources=[{"path": str(corpus)}], run=run)
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(UserError, match=r"no Dask scheduler at tcp://127\.0\.0\.1:9"),
    ):
        build(made, quiet=True)


SBATCH = """#!/bin/bash
# Stands for Slurm: runs the elements of an array as processes.
script="${@: -1}"
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\)%.*/\\1/p' "$script")
for i in $(seq 0 "$last"); do SLURM_ARRAY_TASK_ID=$i bash "$script" || exit 1; done
"""


@pytest.fixture
def sbatch(tmp_path, monkeypatch):
    """A command `sbatch` in the PATH."""
    path = tmp_path / "bin" / "sbatch"
    path.parent.mkdir()
    path.write_text(SBATCH)
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")
    root = Path(__file__).parents[3]
    monkeypatch.setenv("PYTHONPATH", str(root))


@pytest.mark.ranks
def test_slurm_arrays_make_the_same_shards(news, recipe, tmp_path, sbatch, monkeypatch):
    monkeypatch.setattr("data_pipeline.building.slurm_engine.MAX_ELEMENTS", 2)
    (tmp_path / "a.txt").write_text("\n\n".join(news[:60]), encoding="utf-8")
    sections = {"sources": [{"path": str(tmp_path / "a.txt")}], "piece_mb": 0.05}
    expected = build(recipe(output_dir=str(tmp_path / "local"), **sections), quiet=True)
    run = {"engine": "slurm", "slurm_options": ["--partition=cpu"]}
    found = build(recipe(**sections, run=run), quiet=True)
    assert found.fingerprint == expected.fingerprint and len(found.shards) > 2
    assert found.counters == expected.counters


def test_a_missing_sbatch_is_named(corpus, recipe, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="needs the command sbatch"):
        build(recipe(sources=[{"path": str(corpus)}], run={"engine": "slurm"}), quiet=True)
