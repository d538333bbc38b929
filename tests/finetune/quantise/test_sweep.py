"""The sweep's rows are what `quantise` gets with the same settings; its table shows all of them."""

import json

import pytest

from data_pipeline.base.errors import UserError
from finetune import stages
from finetune.quantise.sweep import page
from finetune.recipes import QuantiseRecipe, SweepRecipe
from finetune.settings import QuantiseSettings


def test_a_row_is_what_quantise_would_lose(tmp_path, onnx_dir, task):
    made = stages.sweep(
        SweepRecipe(
            output_dir=tmp_path / "sweep",
            model=onnx_dir,
            task=task,
            methods=("abs_max", "hist"),
            batches=(4, 6),
            quantise=QuantiseSettings(mode="static", percentile=60.0),  # cuts much off
        )
    )
    content = json.loads((made / "sweep.json").read_text())
    rows = {(row["method"], row["batches"]): row for row in content["rows"]}
    assert list(rows) == [("abs_max", 4), ("hist", 4), ("abs_max", 6), ("hist", 6)]
    settings = QuantiseSettings(
        mode="static", percentile=60.0, calibration="hist", batches=6, allowed_drop=None
    )
    int8 = stages.quantise(
        QuantiseRecipe(output_dir=tmp_path / "int8", model=onnx_dir, task=task, quantise=settings)
    )
    deploy = json.loads((int8 / "deploy.json").read_text())
    row = rows["hist", 6]
    assert row["drop_points"] == deploy["dev"]["drop_points"]
    assert row["last_layer_error"] == deploy["layer_errors"][-1]["relative_error"]
    assert row["last_layer_error"] > 2 * rows["abs_max", 6]["last_layer_error"]
    best = min(content["rows"], key=lambda r: (r["drop_points"], r["last_layer_error"]))
    assert content["best"] == best and best["method"] == "abs_max"
    assert (made / "sweep.md").read_text() == page(content)


def test_the_table_has_a_row_a_method_and_a_column_a_number_of_batches():
    def row(method, batches, drop):
        return {"method": method, "batches": batches, "drop_points": drop, "last_layer_error": 0.1}

    rows = [row("mse", 4, 0.5), row("KL", 4, 1.0), row("mse", 16, 0.25), row("KL", 16, -0.1)]
    shown = page({"score": "accuracy", "task": "t", "fp32": 0.9, "rows": rows}).splitlines()
    assert shown[2:] == [
        "| method | 4 batches | 16 batches |",
        "|---|---|---|",
        "| mse | 0.50 (0.1000) | 0.25 (0.1000) |",
        "| KL | 1.00 (0.1000) | -0.10 (0.1000) |",
    ]


def test_an_int8_model_is_refused(tmp_path, int8_dir, task):
    with pytest.raises(UserError, match="is INT8 already"):
        stages.sweep(SweepRecipe(output_dir=tmp_path / "s", model=int8_dir, task=task))
