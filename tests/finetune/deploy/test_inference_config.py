"""What the recipe says of devices reaches Paddle Inference and ONNX Runtime."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from data_pipeline.base.errors import UserError
from data_pipeline.base.recipes import check
from finetune import stages
from finetune.deploy.backend_paddle import configure
from finetune.deploy.backends import OnnxBackend, open_backend
from finetune.deploy.formats import INPUTS
from finetune.recipes import ExportRecipe, QuantiseRecipe
from finetune.settings import InferenceSettings


class Recorder:
    """Takes any call and remembers it."""

    def __init__(self):
        self.calls = {}

    def __getattr__(self, name):
        return lambda *args, **kwargs: self.calls.update({name: (args, kwargs)})


def test_cpu_uses_onednn_and_threads():
    config = Recorder()
    configure(config, InferenceSettings(bfloat16=True), 3)
    assert config.calls["set_cpu_math_library_num_threads"] == ((3,), {})
    assert {"disable_gpu", "enable_mkldnn", "enable_mkldnn_bfloat16"} <= set(config.calls)


def test_gpu_takes_memory_and_no_onednn():
    config = Recorder()
    configure(config, InferenceSettings(device="gpu", memory_mb=300), 1)
    assert config.calls == {"enable_use_gpu": ((300, 0), {})}


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("static_dir", r"inference\.device: cpu"),
        ("onnx_dir", r"install onnxruntime-gpu in place of"),
    ],
)
def test_a_gpu_export_on_a_cpu_says_so(kind, message, tmp_path, task, request):
    shutil.copytree(request.getfixturevalue(kind), tmp_path / "m")
    path = tmp_path / "m" / "deploy.json"
    deploy = json.loads(path.read_text())
    deploy["inference"]["device"] = "gpu"
    path.write_text(json.dumps(deploy))
    with pytest.raises(UserError, match=message):
        open_backend(tmp_path / "m")
    if kind == "onnx_dir":
        recipe = QuantiseRecipe(output_dir=tmp_path / "q", model=tmp_path / "m", task=task)
        with pytest.raises(UserError, match="INT8 is computed on CPUs"):
            stages.quantise(recipe)


def test_the_cuda_provider_comes_first_where_it_is_installed(onnx_dir, monkeypatch):
    import onnxruntime

    opened = {}

    class Session:
        def __init__(self, path, options, providers, disabled_optimizers):
            opened["providers"] = providers
            self.get_inputs = lambda: [
                SimpleNamespace(name=name, type="tensor(int64)") for name in INPUTS
            ]

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    OnnxBackend(onnx_dir / "model.onnx", device="gpu")
    assert opened["providers"] == ["CUDAExecutionProvider", "CPUExecutionProvider"]


@pytest.mark.parametrize(
    ("inference", "form", "message"),
    [
        ({"bfloat16": True}, "onnx", r"inference\.bfloat16 is for format: paddle"),
        ({"bfloat16": True, "device": "gpu"}, "paddle", r"inference\.bfloat16 is for format"),
        ({"device": "gpu"}, "hf", "format: hf has none"),
    ],
)
def test_settings_that_a_format_does_not_have_are_refused(inference, form, message, tmp_path):
    values = {"output_dir": tmp_path, "classifier": tmp_path, "format": form}
    with pytest.raises(UserError, match=message):
        check(ExportRecipe, values | {"inference": inference}, "test")


def test_bfloat16_is_near(tmp_path, classifier_dir, static_dir):
    recipe = ExportRecipe(
        output_dir=tmp_path / "b",
        classifier=classifier_dir,
        format="paddle",
        inference=InferenceSettings(bfloat16=True),
        check_tolerance=0.5,
    )
    ids = np.array([[2, 7, 18, 9, 3]])
    types = np.zeros_like(ids)
    near = open_backend(stages.export(recipe)).logits(ids, types)
    np.testing.assert_allclose(near, open_backend(static_dir).logits(ids, types), atol=0.3)
