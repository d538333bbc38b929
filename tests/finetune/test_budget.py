"""A budget decides which widths are made, whether INT8 is, and which form is chosen."""

import json

import pytest

from data_pipeline.base.errors import UserError
from data_pipeline.base.recipes import check
from finetune import budget, compress
from finetune.recipes import CompressRecipe
from finetune.report.choose import choose
from finetune.report.write import model_bytes
from finetune.settings import BudgetSettings, ChooseSettings


def row(width, precision, latency, size):
    return {
        "width": width,
        "precision": precision,
        "latency_ms": latency,
        "latency_spread_ms": [0.9 * latency, 1.1 * latency],
        "size_mb": size,
    }


ROWS = [
    row(1.0, "fp32", 8.0, 40.0),
    row(1.0, "int8", 4.0, 10.0),
    row(0.5, "fp32", 5.0, 20.0),
    row(0.5, "int8", 2.5, 5.0),
]


@pytest.mark.parametrize(
    ("limits", "widths", "quantise", "said"),
    [
        ({"latency_ms": 9.0}, [], False, "fits as it is"),
        ({"latency_ms": 8.2}, [0.5], True, "width 1 in INT8"),  # the upper quartile is 8.8
        ({"latency_ms": 5.6}, [0.5], True, "width 0.5 in FP32"),
        ({"latency_ms": 4.5}, [], True, "No width fits in FP32"),
        ({"size_mb": 6.0}, [0.5], True, "No width fits in FP32"),
        ({"latency_ms": 100.0, "size_mb": 25.0}, [0.5], True, "Budget: 100 ms and 25 MB"),
    ],
)
def test_the_widest_form_of_each_precision_is_made(limits, widths, quantise, said):
    made = budget.decided(ROWS, BudgetSettings(**limits))
    assert (made["fits"], made["widths"], made["quantise"]) == (True, widths, quantise)
    assert said in " ".join(made["why"])


def test_a_budget_that_nothing_meets_is_refused_with_the_nearest():
    made = budget.decided(ROWS, BudgetSettings(latency_ms=2.0, size_mb=50.0))
    assert not made["fits"]
    assert "within 2 ms and 50 MB" in made["why"][0] and "takes 2.50 ms" in made["why"][0]
    with pytest.raises(ValueError, match="one of latency_ms and size_mb"):
        BudgetSettings()


def form(name, latency, size, accuracy):
    return {
        "name": name,
        "directory": name,
        "latency_ms": latency,
        "latency_spread_ms": [latency, latency],
        "size_mb": size,
        "dev": {"accuracy": accuracy},
    }


def test_the_most_accurate_form_within_the_budget_is_chosen():
    rows = [
        form("student", 8.0, 40.0, 0.90),
        form("student-width-0.5", 5.0, 20.0, 0.88),
        form("student-int8", 4.0, 10.0, 0.895),
        form("student-width-0.5-int8", 2.5, 5.0, 0.87),
    ]
    limits = BudgetSettings(latency_ms=5.0)
    chosen = choose(rows, "accuracy", ChooseSettings(allowed_loss=3.0), limits)
    assert chosen["name"] == "student-int8"
    assert "highest accuracy of the forms within 5 ms" in chosen["why"]
    small = BudgetSettings(size_mb=6.0)
    loose = ChooseSettings(allowed_loss=3.0)
    assert choose(rows, "accuracy", loose, small)["name"] == "student-width-0.5-int8"
    with pytest.raises(UserError, match=r"no form of the student is within 6 MB and 1 points"):
        choose(rows, "accuracy", ChooseSettings(allowed_loss=1.0), small)


@pytest.fixture(scope="module")
def values(workshop, classifier_dir, onnx_dir, task):
    fit = {"epochs": 1, "batch_size": 16, "learning_rate": 3e-3, "dropout": 0.0}
    return {
        "output_dir": str(workshop / "budget"),
        "student": str(classifier_dir),
        "train": None,
        "task": task.model_dump(mode="json"),
        "prune": {"fit": fit, "importance_examples": 32},
        # a little less than the whole student in FP32
        "budget": {"size_mb": (model_bytes(onnx_dir) - 5000) / 1e6, "widths": [0.5]},
        "choose": {"allowed_loss": 20.0},
        "report": {"repeats": 3, "batch_repeats": 2, "batch_sizes": [1], "threads": [1]},
    }


def test_from_a_budget_to_a_product(values, workshop, capsys):
    output = compress.compress(check(CompressRecipe, values, "test"))
    made = json.loads((workshop / "budget" / "plan" / "plan.json").read_text())
    assert 0.5 in made["widths"]
    assert [(r["width"], r["precision"]) for r in made["rows"]] == [
        (1.0, "fp32"),
        (1.0, "int8"),
        (0.5, "fp32"),
        (0.5, "int8"),
    ]
    report = json.loads((workshop / "budget" / "report.json").read_text())
    sizes = {r["name"]: r["size_mb"] for r in report["models"]}
    limit = values["budget"]["size_mb"]
    assert sizes["student"] > limit >= sizes[output["chosen"]["name"]]
    # what was measured before training is what the trained form takes
    assert sizes["student-width-0.5"] == pytest.approx(made["rows"][2]["size_mb"], rel=0.01)
    page = (workshop / "budget" / "report.html").read_text()
    assert "Chosen: " in page and "widest that fits" in page
    assert "plan: Budget" in capsys.readouterr().err
