"""All stages from one file: the rows, the choice, going on where it stopped, bad recipes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from data_pipeline.base import recipes
from data_pipeline.base.errors import UserError
from finetune import compress
from finetune.__main__ import main
from finetune.recipes import CompressRecipe
from finetune.settings import ChooseSettings
from finetune.training.output import locked

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "launch" / "recipes"


@pytest.fixture(scope="module")
def values(workshop, encoder, task):
    fit = {"epochs": 8, "batch_size": 16, "learning_rate": 3e-3, "dropout": 0.0}
    return {
        "output_dir": str(workshop / "compress"),
        "report_dir": str(workshop / "compressed"),
        "student": str(encoder),
        "references": {"teacher": str(encoder)},
        "task": task.model_dump(mode="json"),
        "max_length": 16,
        "train": fit,
        "reference_epochs": {"teacher": 7},
        "distill": {"reference": "teacher", "alpha": 0.5},
        "prune": {"widths": [0.75], "fit": {**fit, "epochs": 1}},
        "quantise": {"mode": "static", "batches": 4, "allowed_drop": 5.0},
        "report": {
            "repeats": 3,
            "batch_repeats": 2,
            "padded_length": 32,
            "baseline": "teacher",
        },
        "examples": ["今晴是很好"],
    }


@pytest.fixture(scope="module")
def finished(values, workshop):
    path = workshop / "compress.yaml"
    path.write_text(yaml.safe_dump(values, allow_unicode=True))
    assert main(["compress", "--config", str(path)]) == 0
    return path


def test_every_form_is_a_row(finished, workshop):
    report = json.loads((workshop / "compressed" / "report.json").read_text())
    assert [row["name"] for row in report["models"]] == [
        "teacher",
        "student",
        "student-width-0.75",
        "student-int8",
        "student-width-0.75-int8",
    ]
    assert (report["split"], report["score"]) == ("test", "accuracy")
    for row in report["models"]:
        assert 0.5 <= row["accuracy"] <= 1
        assert 0.5 <= row["dev"]["accuracy"] <= 1
        assert row["latency_ms"] > 0
        assert row["size_mb"] > 0
        settings = [(one["threads"], one["batch"], one["length"]) for one in row["speed"]]
        assert sorted(settings, key=str) == sorted(
            [(t, b, n) for t in (1, 2) for b in (1, 32) for n in ("real", 32)], key=str
        )
        assert all(
            one["min_ms"] <= one["p50_ms"] <= one["p95_ms"] <= one["max_ms"] for one in row["speed"]
        )
    sizes = {row["name"]: row["parameters"] for row in report["models"]}
    assert sizes["student-width-0.75"] < sizes["student"] == sizes["student-int8"]


def test_gains_are_over_the_baseline_and_the_majority_is_shown(finished, workshop):
    report = json.loads((workshop / "compressed" / "report.json").read_text())
    rows = {row["name"]: row for row in report["models"]}
    assert report["gains"].keys() == rows.keys() - {"teacher"}
    for name, gain in report["gains"].items():
        points = 100 * (rows[name]["accuracy"] - rows["teacher"]["accuracy"])
        assert gain["points"] == pytest.approx(points)
        assert gain["low"] <= points + 1e-9 and points - 1e-9 <= gain["high"]
    for row in rows.values():
        assert row["interval"][0] <= row["accuracy"] <= row["interval"][1]
    assert report["majority"]["scores"]["accuracy"] == 0.5
    page = (workshop / "compressed" / "report.html").read_text()
    assert report["in_words"]["student"].split(" (")[0] in page
    assert "commonest in training" in page


def test_picture_and_page(finished, workshop):
    assert (workshop / "compressed" / "report.png").read_bytes().startswith(b"\x89PNG")
    page = (workshop / "compressed" / "report.html").read_text()
    assert "data:image/png;base64," in page
    assert "accuracy, dev" in page
    assert "accuracy, test" in page
    assert "http" not in page  # nothing is fetched
    assert "student-width-0.75-int8" in page


def test_a_second_run_redoes_nothing(finished, capsys):
    assert main(["compress", str(finished), "--json"]) == 0  # --config may be left out
    shown = capsys.readouterr()
    assert "written in" not in shown.err
    chosen = json.loads(shown.out)["output"]["chosen"]
    assert chosen["name"].startswith("student")
    assert "fastest of" in chosen["why"]


def test_a_changed_setting_redoes_what_depends_on_it(finished, capsys):
    overrides = ["--quantise.calibration", "KL", "--report.repeats", "2"]
    assert main(["compress", "--config", str(finished), *overrides]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert {line.split(":")[0] for line in lines if "written in" in line} == {"quantise", "report"}


def test_gate_choice_and_report_have_the_score_that_the_recipe_names(finished, workshop):
    assert main(["compress", "--config", str(finished), "--choose.choose_by", "macro_f1"]) == 0
    report = json.loads((workshop / "compressed" / "report.json").read_text())
    rows = {row["name"]: row for row in report["models"]}
    assert report["score"] == report["chosen"]["score"] == "macro_f1"
    assert "points of macro_f1" in report["in_words"]["student"]
    points = 100 * (rows["student"]["macro_f1"] - rows["teacher"]["macro_f1"])
    assert report["gains"]["student"]["points"] == pytest.approx(points)
    deploy = json.loads((Path(rows["student-int8"]["directory"]) / "deploy.json").read_text())
    assert deploy["dev"]["score"] == "macro_f1"


def test_two_processes_do_not_compress_into_one_directory(finished, workshop, capsys):
    with locked(workshop / "compress"):
        assert main(["compress", "--config", str(finished)]) == 2
    assert "is being written by another process" in capsys.readouterr().err


def test_two_recipes_do_not_write_one_report(finished, workshop, capsys):
    other = ["--output_dir", str(workshop / "another")]
    with locked(workshop / "compressed"):
        assert main(["compress", "--config", str(finished), *other]) == 2
    error = capsys.readouterr().err
    assert f"report_dir: {workshop / 'compressed'} is being written by another process" in error
    assert error.rstrip().endswith("name another report_dir")
    assert not (workshop / "another").exists()


def test_the_report_may_lie_in_the_output_directory(finished, workshop, capsys):
    report = ["--report_dir", str(workshop / "compress" / ".." / "compress")]
    assert main(["compress", "--config", str(finished), *report]) == 0
    assert (workshop / "compress" / "report.json").exists()


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("compress/report", "belongs to the stage 'report'; name another directory"),
        ("compress/train/student", "belongs to the stage 'train'"),
        ("compress.yaml", "compress.yaml is a file"),
        ("compress.yaml/report", "compress.yaml is a file"),
    ],
)
def test_a_place_where_no_report_can_be_is_refused_first(
    place, message, finished, workshop, capsys
):
    assert main(["compress", "--config", str(finished), "--report_dir", str(workshop / place)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: report_dir: ") and message in error


def test_the_directories_of_all_stages_are_known(finished, workshop):
    made = {path.name for path in (workshop / "compress").iterdir() if path.is_dir()}
    assert made and made <= set(compress.STAGES)


def choose(rows, score, allowed_loss):
    return compress.choose(rows, score, ChooseSettings(allowed_loss=allowed_loss))


def test_the_choice_is_the_fastest_within_the_allowed_loss():
    def row(name, accuracy, latency, test_accuracy=0.5):
        return {
            "name": name,
            "accuracy": test_accuracy,
            "dev": {"accuracy": accuracy, "macro_f1": 1 - accuracy},
            "latency_ms": latency,
            "latency_spread_ms": [latency - 0.1, latency + 0.1],
            "size_mb": 1.0,
            "directory": name,
        }

    rows = [
        row("teacher", 0.95, 0.1),
        row("student", 0.90, 4.0),
        row("student-width-0.75", 0.895, 3.0),
        row("student-int8", 0.893, 2.0, test_accuracy=0.1),
        row("student-width-0.75-int8", 0.85, 1.0, test_accuracy=0.99),
    ]
    assert choose(rows, "accuracy", 1.0)["name"] == "student-int8"
    assert choose(rows, "accuracy", 0.0)["name"] == "student"
    assert "-5.00 points" in choose(rows, "accuracy", 5.0)["why"]
    by_f1 = choose(rows, "macro_f1", 0.0)
    assert by_f1["name"] == "student-width-0.75-int8"
    rows[3]["latency_ms"], rows[3]["latency_spread_ms"] = 1.05, [1.0, 1.2]
    assert "not clearly faster than student-int8" in choose(rows, "accuracy", 5.0)["why"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"distill": {"reference": "techer"}}, "'techer' is not among references"),
        ({"quantise": {"mode": "qat"}}, "go together"),
        ({"quantize": {}}, "did you mean 'quantise'"),
        ({"train": {"epoch": 1}}, "did you mean 'epochs'"),
        ({"prune": {"widths": ["wide"]}}, r"prune\.widths"),
        ({"report": {"baseline": "techer"}}, r"report\.baseline: 'techer' is not among references"),
        (
            {"references": {"student": "x"}, "distill": None, "report": {}},
            "the name of the student itself",
        ),
    ],
)
def test_bad_recipes_are_refused_before_anything_runs(change, message, values):
    with pytest.raises(UserError, match=message):
        recipes.check(CompressRecipe, {**values, **change}, "test")


@pytest.mark.parametrize("name", sorted(p.parent.name for p in RECIPES.glob("*/compress.yaml")))
def test_the_shipped_recipes_are_valid(name):
    assert recipes.load(CompressRecipe, RECIPES / name / "compress.yaml").student


@pytest.mark.parametrize("command", ["", "train", "compress", "predict", "serve"])
def test_help_imports_nothing_heavy(command):
    code = (
        "import sys\nfrom finetune.__main__ import parser\n"
        f"try:\n    parser().parse_args({[*command.split(), '--help']!r})\n"
        "except SystemExit:\n    pass\n"
        "heavy = {'paddle', 'paddlenlp', 'onnxruntime', 'matplotlib', 'fastapi', 'optuna'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True)
