"""Curves of several runs in one picture."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread

from data_pipeline.base.errors import UserError
from pretrain import __main__ as command
from pretrain.plot import Curves, choose, names_of, plot, running_mean


def write_run(directory, count, offset=0.0, **more):
    directory.mkdir(parents=True)
    records = [
        {
            "step": 10 * number,
            "loss/total": 2.0 / number + offset,
            "loss/q": 1.0 / number,
            "optim/lr": 1e-3 * number,
            "data/padding_share": 0.1,
            **more,
        }
        for number in range(1, count + 1)
    ]
    lines = "".join(f"{json.dumps(record)}\n" for record in records)
    (directory / "metrics.jsonl").write_text(lines + '{"step": 1')  # cut short by a crash
    return directory


@pytest.fixture
def runs(tmp_path):
    one = write_run(tmp_path / "one" / "distill", 20)
    other = write_run(tmp_path / "other" / "distill", 12, 1.0, **{"holdout/total": 1.5})
    return [one, other]


def colors(path):
    """How many pixels have each of matplotlib's first two colours."""
    pixels = (imread(path)[..., :3] * 255).round().astype(int)
    cycle = ([31, 119, 180], [255, 127, 14])
    return [int((pixels == color).all(-1).sum()) for color in cycle]


def test_every_run_is_drawn_and_named(runs, tmp_path):
    shown = plot(runs, tmp_path / "both.png", [])
    assert shown["metrics"] == ["loss/total", "loss/q", "holdout/total", "optim/lr"]
    assert list(shown["runs"]) == ["one/distill", "other/distill"]
    last = shown["runs"]["other/distill"]
    assert last["step"] == 120 and last["records"] == 12
    assert last["last"]["loss/total"] == pytest.approx(2 / 12 + 1)
    assert "holdout/total" not in shown["runs"]["one/distill"]["last"]
    assert min(colors(tmp_path / "both.png")) > 200
    plot(runs[:1], tmp_path / "one.png", [])
    assert colors(tmp_path / "one.png")[1] == 0


def test_asked_for_metrics_only(runs, tmp_path):
    shown = plot(runs, tmp_path / "p.png", ["data/padding_share", "loss/"])
    assert shown["metrics"] == ["data/padding_share", "loss/total", "loss/q"]
    with pytest.raises(UserError, match=r"no run has 'los/total'; there are loss/total, loss/q"):
        plot(runs, tmp_path / "p.png", ["los/total"])


def test_what_is_no_run_and_the_same_run_twice(runs, tmp_path):
    with pytest.raises(UserError, match=r"no records in metrics\.jsonl"):
        plot([*runs, tmp_path / "none"], tmp_path / "p.png", [])
    with pytest.raises(UserError, match="the same run is given twice"):
        plot([runs[0], runs[0]], tmp_path / "p.png", [])
    assert not (tmp_path / "p.png").exists()
    with pytest.raises(UserError, match="name some by --metrics"):
        choose([Curves("a", [{"step": 1, "memory/peak_mb": 3.0}])], [])


def test_names_are_the_shortest_that_differ(tmp_path):
    paths = [tmp_path / "a" / "run", tmp_path / "b" / "run", tmp_path / "b" / "mlm"]
    assert names_of(paths) == ["a/run", "b/run", "b/mlm"]
    assert names_of(paths[1:]) == ["run", "mlm"]


@given(values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), window=st.integers(1, 40))
def test_running_mean_is_that_of_the_last_values(values, window):
    expected = [np.mean(values[max(0, i + 1 - window) : i + 1]) for i in range(len(values))]
    np.testing.assert_allclose(running_mean(np.array(values), window), expected, atol=1e-4)


def test_the_command_prints_last_values_and_json(runs, tmp_path, capsys):
    output = tmp_path / "p.png"
    words = ["plot", *map(str, runs), "--output", str(output), "--smooth", "3"]
    assert command.main(words) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split() == [
        "run",
        "step",
        "loss/total",
        "loss/q",
        "holdout/total",
        "optim/lr",
    ]
    assert printed[1].split()[:3] == ["one/distill", "200", "0.1"]
    assert output.is_file()
    assert command.main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"]["one/distill"]["step"] == 200


def test_it_does_not_wait_for_paddle():
    program = "import sys, pretrain.plot; print('paddle' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"
