"""The benchmark's own arithmetic, and its figures' names on a small run."""

import importlib.util
import json
from pathlib import Path

import onnx
import pytest

from data_pipeline.base.errors import UserError

PATH = Path(__file__).parents[2] / "benchmarks" / "inference.py"
SPEC = importlib.util.spec_from_file_location("inference_benchmark", PATH)
benchmark = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(benchmark)


def test_calls_take_turns_and_the_first_round_is_left_out():
    order = []
    calls = {name: (lambda name=name: order.append(name)) for name in "ab"}
    seconds = benchmark.in_turns(calls, 3)
    assert "".join(order) == "abababab"
    assert [len(times) for times in seconds.values()] == [3, 3]


def test_ratio_is_of_medians():
    assert benchmark.ratio({"a": [1.0, 4.0, 100.0], "b": [2.0, 2.0, 2.0]}, "a", "b") == 2.0


def test_drops_come_from_a_report(tmp_path):
    rows = [("student", 0.8), ("student-width-0.75", 0.795), ("student-int8", 0.798)]
    models = [{"name": name, "dev": {"accuracy": 0.1, "entity_f1": f1}} for name, f1 in rows]
    report = {"score": "entity_f1", "models": models}
    (tmp_path / "report.json").write_text(json.dumps(report))
    assert benchmark.accuracy_drops(tmp_path / "report.json") == {
        "prune_drop_points": pytest.approx(0.5),
        "int8_drop_points": pytest.approx(0.2),
    }
    with pytest.raises(UserError, match="finetune compress"):
        benchmark.accuracy_drops(tmp_path / "none.json")


def test_the_vocabulary_has_the_published_size(tmp_path):
    benchmark.write_vocab(tmp_path / "vocab.txt")
    tokens = (tmp_path / "vocab.txt").read_text(encoding="utf-8").splitlines()
    assert len(tokens) == len(set(tokens)) == 21128


def test_a_row_s_graph_is_fused_as_an_export_is(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "HIDDEN", 48)
    monkeypatch.setattr(benchmark, "VOCAB", 40)
    model = benchmark.random_classifier("PPMiniLMModel", 2, "relu")
    benchmark.to_onnx(model, tmp_path / "row")
    nodes = onnx.load(str(tmp_path / "row" / "model.onnx")).graph.node
    assert sum(node.op_type == "MultiHeadAttention" for node in nodes) == 2
