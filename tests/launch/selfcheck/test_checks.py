"""The harness of the self-check, with real runs on the CPU, and its judgement on made-up ones."""

import json
import subprocess
import sys

import numpy as np
import pytest

from data_pipeline.base.errors import UserError
from launch import environment
from launch.selfcheck import checks, lab, report
from pretrain.encoders import device
from pretrain.training import precision
from pretrain.training.settings import Precision

GPUS = environment.visible_gpus()


def trained(losses, code=0, tensors=None, **columns):
    records = [{"step": i + 1, "loss/total": x} for i, x in enumerate(losses)]
    for name, values in columns.items():
        for record, value in zip(records, values, strict=True):
            record[name.replace("__", "/")] = value
    return lab.Trained(code, "what it printed", records, tensors or {})


class FakeLab:
    """Answers with prepared runs, by name."""

    device, gpus = "gpu", 8

    def __init__(self, **runs):
        self.runs = runs

    def train(self, name, *_, **__):
        return self.runs[name.replace("-", "_")]


def perform(name, **runs):
    (check,) = [check for check in checks.CHECKS if check.name == name]
    return checks.perform(check, FakeLab(**runs))


def test_a_loss_that_is_off_fails_and_is_told():
    exact = trained([1.0, 0.5], optim__grad_norm=[2.0, 1.0])
    near = trained([1.0, 0.50001], optim__grad_norm=[2.0, 1.0])
    off = trained([1.0, 0.51], optim__grad_norm=[2.0, 1.0])
    assert perform("float32 as on the CPU", float32_cpu=exact, float32_gpu=near).ok
    result = perform("float32 as on the CPU", float32_cpu=exact, float32_gpu=off)
    assert not result.ok and "0.02 from the CPU (limit 0.001)" in result.message


def test_a_loss_that_is_not_finite_fails():
    exact = trained([1.0], optim__grad_norm=[2.0])
    result = perform(
        "two ranks", ranks_1=exact, ranks_2=trained([float("nan")], optim__grad_norm=[1.0])
    )
    assert not result.ok and "inf" in result.message


def test_an_overflow_must_skip_steps_and_spare_the_weights():
    good = {"w": np.ones(2)}
    run = trained([1.0], tensors=good, optim__skipped=[3])
    assert perform("float16 overflow", overflow=run).ok
    never = trained([1.0], tensors=good, optim__skipped=[0])
    assert "no step was skipped" in perform("float16 overflow", overflow=never).message
    bad = trained([1.0], tensors={"w": np.array([np.inf])}, optim__skipped=[3])
    assert "not finite" in perform("float16 overflow", overflow=bad).message


def test_a_run_that_ends_badly_shows_what_it_printed():
    result = perform("two ranks", ranks_1=trained([1.0], code=1), ranks_2=trained([1.0]))
    assert not result.ok and "ended with 1 in the place of 0: what it printed" in result.message


def test_what_cannot_be_made_is_skipped_with_its_reason(tmp_path):
    made = {check.name: checks.missing(check, lab.Lab(tmp_path, "cpu")) for check in checks.CHECKS}
    assert "needs a GPU" in made["half precision"] and made["resume"] == ""
    for check in checks.CHECKS:
        if check.needs == "two":
            assert "needs two GPUs" in checks.missing(check, lab.Lab(tmp_path, "gpu", 1))


def test_fused_attention_is_compared_in_half_precision_too():
    """On a GPU that is another kernel."""
    exact = trained([1.0], optim__grad_norm=[2.0])
    runs = {"attention_plain": exact, "attention_fused": exact, "attention_float16": exact}
    assert perform("fused attention", **runs, attention_bfloat16=trained([1.05])).ok
    result = perform("fused attention", **runs, attention_bfloat16=trained([1.5]))
    assert not result.ok and "0.33 from the plain form in float32" in result.message


def test_a_gpu_without_bfloat16_is_not_at_fault(monkeypatch):
    monkeypatch.setattr(device, "on_gpu", lambda: True)
    monkeypatch.setattr(device, "has_bfloat16", lambda: False)
    with pytest.raises(UserError) as error:
        precision.configure(Precision(dtype="bfloat16"))
    without = lab.Trained(2, f"error: {error.value}", [], {})
    exact = trained([1.0], optim__grad_norm=[2.0])
    result = perform(
        "half precision", float32_half=exact, half_float16=exact, half_bfloat16=without
    )
    assert result.ok and "bfloat16: this GPU does not compute in bfloat16" in result.message
    wrong = lab.Trained(2, "error: something else", [], {})
    assert not perform(
        "half precision", float32_half=exact, half_float16=exact, half_bfloat16=wrong
    ).ok


def test_a_group_on_two_ranks_must_have_the_loss_and_the_moments_of_one():
    one = trained([1.0], tensors={"optimizer/a/moment1_0": 1, "model/a": 1}, optim__grad_norm=[2.0])
    shards = {"optimizer-00001-of-00002/a/moment1_0": 1, "model/a": 1}
    two = trained([1.0], tensors=shards, optim__grad_norm=[2.0])
    assert perform("a group on two ranks", group_1=one, group_2=two).ok
    lost = trained([1.0], tensors={"model/a": 1}, optim__grad_norm=[2.0])
    assert not perform("a group on two ranks", group_1=one, group_2=lost).ok
    off = trained([1.1], tensors=shards, optim__grad_norm=[2.0])
    assert not perform("a group on two ranks", group_1=one, group_2=off).ok


@pytest.mark.skipif(bool(GPUS), reason="there is a GPU")
def test_without_a_gpu_the_doctor_says_so():
    command = [sys.executable, "-m", "launch", "doctor", "--gpu"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2 and "no GPU is visible" in result.stderr


@pytest.mark.ranks
@pytest.mark.timeout(1200)
def test_checks_pass_on_a_cpu(tmp_path):
    """Those that need no GPU, but for the ones that would compare the CPU with itself."""
    lines = []
    names = ("half precision", "a group on two ranks", "resume", "speed and memory")
    values = report.self_check(tmp_path, "cpu", lines.append, names)
    assert values["ok"], "\n".join(lines)
    results = {result["name"]: result for result in values["checks"]}
    assert results["resume"]["ok"] and "the same to the bit" in results["resume"]["message"]
    assert results["a group on two ranks"]["ok"]
    assert "sequences/s in float32" in results["speed and memory"]["message"]
    assert results["half precision"]["ok"] is None
    json.dumps(values)


@pytest.mark.gpu
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not GPUS, reason="no GPU is visible to the driver")
@pytest.mark.parametrize("name", [check.name for check in checks.CHECKS])
def test_on_a_gpu(name, tmp_path):
    values = report.self_check(tmp_path, "gpu", names=(name,))
    (result,) = values["checks"]
    if result["ok"] is None:
        pytest.skip(result["message"])
    assert result["ok"], result["message"]
