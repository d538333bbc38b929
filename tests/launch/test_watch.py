import json
import subprocess
import sys

import pytest
import yaml

from data_pipeline.base.errors import UserError
from launch import watch


@pytest.fixture
def run(tmp_path):
    """A run of 100 steps, at step 30, as training leaves it on the disk."""
    recipe = {"optimizer": {"total_steps": 100}, "batch": {"global_batch_size": 16}}
    (tmp_path / "recipe.resolved.yaml").write_text(yaml.safe_dump(recipe))
    records = [
        {"step": 10, "loss/total": 2.0, "holdout_loss/total": 2.5, "speed/sequences_per_s": 7},
        {"step": 20, "loss/total": 1.5, "speed/sequences_per_s": 8.0, "optim/skipped": 1},
        {"step": 30, "loss/total": 1.25, "speed/sequences_per_s": 9.0, "optim/skipped": 2,
         "time/data_wait_share": 0.015},
    ]  # fmt: skip
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (tmp_path / "metrics.jsonl").write_text(lines + '{"step": 40, "lo')  # being written
    for step, complete in ((10, True), (20, True), (30, False)):
        place = tmp_path / "checkpoints" / f"step-{step}"
        place.mkdir(parents=True)
        if complete:
            (place / "complete.json").write_text("{}")
    return tmp_path


def test_the_screen_shows_where_the_run_stands(run):
    now = (run / "metrics.jsonl").stat().st_mtime + 12
    status = watch.read_status(run, now)
    assert (status.step, status.total_steps, status.checkpoint_step) == (30, 100, 20)
    assert status.sequences_per_second == 8
    assert status.seconds_left == 70 * 16 / 8
    assert status.losses == {"loss/total": 1.25, "holdout_loss/total": 2.5}
    text = watch.as_text(status)
    for part in ("step 30 of 100", "30.0%", "12 s ago", "00:02:20", "1.25", "1.5% of a step",
                 "skipped steps      2", "newest checkpoint  step 20"):  # fmt: skip
        assert part in text


def test_the_slowest_rank_and_the_longest_wait_for_data_are_named(run):
    record = {
        "step": 40,
        "time/data_wait_share": 0.2,
        "time/data_wait_rank": 5,
        "time/slowest_rank": 3,
        "time/slowest_rank_s": 0.52,
        "time/median_rank_s": 0.41,
    }
    lines = (run / "metrics.jsonl").read_text().splitlines()[:-1]
    (run / "metrics.jsonl").write_text("\n".join([*lines, json.dumps(record), ""]))
    text = watch.as_text(watch.read_status(run, 0))
    assert "waiting for data   20.0% of a step (rank 5)" in text
    assert "slowest rank       3: 0.52 s of own work a step, median 0.41 s" in text


def test_a_finished_run_says_so(run):
    (run / "finished.json").write_text("{}")
    text = watch.as_text(watch.read_status(run, 0))
    assert "finished" in text and "time left" not in text


def test_what_is_no_run_is_an_error(tmp_path, run):
    with pytest.raises(UserError, match=r"recipe\.resolved\.yaml is missing"):
        watch.read_status(tmp_path / "nothing", 0)
    (run / "metrics.jsonl").write_text("")
    with pytest.raises(UserError, match="has not recorded a step yet"):
        watch.read_status(run, 0)


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "00:00:05"), (3725, "01:02:05"), (180000, "2 d 02:00")]
)
def test_durations(seconds, text):
    assert watch.duration(seconds) == text


def test_without_a_terminal_it_prints_once(run):
    command = [sys.executable, "-m", "launch", "watch", str(run)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "step 30 of 100" in shown and watch.CLEAR not in shown
    values = json.loads(subprocess.check_output([*command, "--json"]))
    assert values["step"] == 30
