"""Real ranks that are stopped, lost, hung, or run into a full disk or numbers that are not finite:
each ends with a code and words of its own, and comes back where that helps."""

import re
import signal

import psutil
import pytest

from pretrain.training import checkpoint
from pretrain.training.loop import NOT_FINITE, SAVED_AND_STOPPED
from tests.integration.ranks import Run, ranks_of
from tests.pretrain import tiny

pytestmark = pytest.mark.ranks


def test_sigterm_saves_and_ends_with_a_code_of_its_own(root, straight):
    changes = {"checkpoint.every_steps": 1000, "safety.stop_vote_steps": 3}
    run = Run(root, "stopped", **changes)
    process = run.launch()  # as a cluster does that takes one node away
    run.wait_for_step(2, process)
    ranks_of(process)[1].send_signal(signal.SIGTERM)
    assert tiny.finish(process) == SAVED_AND_STOPPED, run.output()
    saved = checkpoint.newest(run.output_dir / "checkpoints").step
    assert 2 <= saved < 14 and saved % 3 == 0
    assert f"saved at step {saved} and stopped; the same command resumes it" in run.output()
    for talk in (
        "Modified FLAGS",
        "HybridParallelInfo",
        "comm group",
        "LAUNCH WARNING",
        "strategy",
    ):
        assert talk not in run.output()
    process = run.launch()  # as a person does, or Slurm at the end of the time
    run.wait_for_step(saved + 1, process)
    process.send_signal(signal.SIGTERM)
    assert tiny.finish(process) == SAVED_AND_STOPPED, run.output()
    assert saved < checkpoint.newest(run.output_dir / "checkpoints").step < 14
    assert run.finish(2).outcome() == straight[2].outcome()


def test_a_job_that_loses_a_rank_or_hangs_comes_back_by_itself(root, straight):
    run = Run(root, "lost", **{"safety.hang_seconds": 6})
    process = run.launch()
    run.wait_for_step(3, process)
    ranks_of(process)[1].kill()
    run.wait_for(lambda: "restart 1 of 3 from checkpoint of step" in run.output(), process)
    lost_at = run.last_step()
    run.wait_for_step(lost_at + 1, process)
    ranks_of(process)[1].suspend()
    assert tiny.finish(process) == 0, run.output()
    logs = [(run.output_dir / "log" / f"workerlog.{rank}").read_text() for rank in (0, 1)]
    assert "longer than 6 s (safety.hang_seconds)" in "".join(logs)
    for log in logs:  # of the one that waited, and of the one that stood still
        assert "(most recent call first)" in log
        assert "loop.py" in log
    assert run.outcome() == straight[2].outcome()


def test_killing_the_launcher_leaves_no_rank_behind(root):
    run = Run(root, "orphans", **{"optimizer.total_steps": 100000})
    process = run.start(2)
    run.wait_for_step(1, process)
    ranks = ranks_of(process)
    assert len(ranks) == 2
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(ranks, timeout=30)
    assert not alive


def test_what_is_not_finite_on_one_rank_is_skipped_by_all_and_ends_the_run_in_the_end(root):
    run = Run(root, "not-finite", **{"safety.max_skipped_steps": 3})
    bad = [3, 7, 8, 9]
    assert run.ends(2, rank=1, not_finite=bad) == NOT_FINITE, run.output()
    for rank in (0, 1):  # both end by themselves, with this sentence
        assert "3 steps in a row had a non-finite gradient" in run.rank_log(rank)
    records = run.metrics()
    assert [r["optim/skipped"] for r in records] == [0, 0, 1, 1, 1, 1, 2, 3, 4]
    assert [("loss/total" in r) for r in records] == [r["step"] not in bad for r in records]
    rates = [r["optim/lr"] for r in records]
    assert rates[2] == rates[3]  # the skipped step did not move the schedule
    state = checkpoint.newest(run.output_dir / "checkpoints").state()
    assert state["counters"] == {"step": 8, "updates": 5, "skipped_in_a_row": 2}


def test_a_disk_that_fills_up_is_said_and_costs_nothing_but_time(root):
    run = Run(root, "full", **{"checkpoint.async_mode": "async"})
    assert run.ends(2, rank=0, full_disk_from=5) == 2, run.output()
    failed = int(re.search(r"step-(\d): cannot be written", run.output())[1])
    assert failed in (4, 6)  # 4 may still be being written in step 5
    assert "older checkpoints are untouched" in run.output()
    assert "rank 0 has failed; the reason is in its log" in run.rank_log(1)
    assert checkpoint.newest(run.output_dir / "checkpoints").step == failed - 2
