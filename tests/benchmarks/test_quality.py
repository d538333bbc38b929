"""benchmarks/quality.py at its smoke size: every contender, killed in the middle and continued."""

import json

import numpy as np
import pytest

from benchmarks import quality, quality_report, quality_scores


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The work directory of a run that was interrupted once, and how often it fine-tuned."""
    work = tmp_path_factory.mktemp("quality")
    command = ["--work", str(work), "--size", "smoke", "--json", str(work / "quality.json")]
    command += ["--results", str(work / "RESULTS.md"), "--tasks", "reviews_500", "people_daily_ner"]
    calls = []
    real = quality_scores.fitted_model

    def interrupted(encoder, data, settings):
        calls.append((encoder.name, data.task.name, settings.seed))
        if len(calls) == 8:
            raise KeyboardInterrupt
        return real(encoder, data, settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quality_scores, "fitted_model", interrupted)
        with pytest.raises(KeyboardInterrupt):
            quality.main.__wrapped__(command)  # `command` would end this process's own Ctrl-C
        assert len(calls) == 8
        assert quality.main(command) == 0
        first = len(calls)
        assert quality.main(command) == 0  # nothing is left to do
        assert len(calls) == first
    return work, calls


def test_a_second_start_does_what_the_first_left(finished):
    _, calls = finished
    interrupted = calls[7]
    assert calls.count(interrupted) == 2
    assert all(calls.count(call) == 1 for call in calls if call != interrupted)


def test_every_contender_has_its_scores_and_interval(finished):
    work, _ = finished
    summary = json.loads((work / "quality.json").read_text())["summary"]
    rows = {row["name"]: row for row in summary["rows"]}
    assert rows.keys() == set(quality.CONTENDERS)
    assert rows["untrained"]["seeds"] == rows["masked_lm"]["seeds"] == 2
    assert rows[summary["best_student"]]["seeds"] == 2
    for row in rows.values():
        assert row["tasks"].keys() == {"reviews_500", "people_daily_ner"}
        gain = row["over_untrained"]
        assert gain["low"] <= gain["points"] <= gain["high"]
    figures = json.loads((work / "quality.json").read_text())["figures"]
    assert figures["student_over_teacher"] == pytest.approx(
        rows[summary["best_student"]]["mean"] / rows["teacher"]["mean"]
    )
    assert summary["hours"]["taken"] > 0 and summary["hours"]["total"] > 0
    assert (work / "quality.png").read_bytes().startswith(b"\x89PNG")


def test_the_section_of_results_is_replaced_not_repeated(finished, tmp_path):
    work, _ = finished
    text = (work / "RESULTS.md").read_text()
    assert text.count(quality_report.BEGIN) == 1
    assert "| never pre-trained (`untrained`) |" in text
    assert " --rates 0.0002 " in text.replace("`", " ")
    path = tmp_path / "RESULTS.md"
    path.write_text("# Results\n\nother\n")
    quality_report.replace_section(path, "one")
    quality_report.replace_section(path, "two")
    written = path.read_text()
    assert "other" in written and "two" in written and "one" not in written


def result(accuracy: float, examples: int = 100) -> dict:
    right = np.arange(examples) < accuracy * examples
    scores = {"accuracy": accuracy}
    parts = np.stack([right, np.ones(examples)], 1).astype(int).tolist()
    return {"score": "accuracy", "dev": scores, "test": scores, "parts": parts}


def test_figures_are_those_of_the_means():
    means = {
        "teacher": [0.9],
        "untrained": [0.6, 0.7],
        "masked_lm": [0.7, 0.72],
        "token": [0.88, 0.9],
    }
    results = {
        name: {seed: {"t": [result(value)]} for seed, value in enumerate(values, 1)}
        for name, values in means.items()
    }
    summary = quality_report.summarise(results, "token", "token")
    figures = summary["figures"]
    assert figures["student_over_teacher"] == pytest.approx(0.89 / 0.9)
    assert figures["points_over_scratch"] == pytest.approx(24)
    assert figures["points_over_mlm"] == pytest.approx(18)
    assert figures["points_over_mlm_spread"] == pytest.approx(100 * np.std([0.7, 0.72], ddof=1))
    assert all(summary["goals"].values())
    assert [row["name"] for row in summary["rows"]] == [
        "teacher",
        "token",
        "masked_lm",
        "untrained",
    ]
