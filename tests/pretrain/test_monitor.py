"""metrics.jsonl is the truth, VisualDL a view of it; both go on after a resume."""

import json

from visualdl import LogReader

from pretrain.monitor import Monitor, read_metrics


def curve(folder, name="loss/total"):
    (file,) = (folder / "vdl").iterdir()
    points = LogReader(file_path=str(file)).get_data("scalar", name)
    return [(point.id, round(point.value, 4)) for point in points]


def written(folder, steps, since=0):
    monitor = Monitor(folder, since, 10)
    for step in steps:
        monitor.write({"step": step, "loss/total": step / 2})
    monitor.close()


def test_records_after_the_checkpoint_are_written_anew(tmp_path):
    written(tmp_path, range(1, 6))
    written(tmp_path, range(4, 8), since=3)
    assert [record["step"] for record in read_metrics(tmp_path / "metrics.jsonl")] == [*range(1, 8)]
    assert curve(tmp_path) == [(step, step / 2) for step in range(1, 8)]


def test_a_run_that_starts_over_starts_its_curves_over(tmp_path):
    written(tmp_path, range(1, 4))
    written(tmp_path, range(1, 3))
    assert curve(tmp_path) == [(1, 0.5), (2, 1.0)]


def test_a_line_cut_short_by_a_crash_is_dropped(tmp_path):
    written(tmp_path, [1, 2])
    with (tmp_path / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 3, "loss/to')
    written(tmp_path, [3], since=2)
    lines = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]
