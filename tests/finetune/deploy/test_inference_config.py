"""What the recipe says reaches Paddle Inference's configuration."""

import json
import shutil

import numpy as np
import pytest
from paddle.inference import PrecisionType

from data_pipeline.base.errors import UserError
from finetune import stages
from finetune.deploy.backend_paddle import configure
from finetune.deploy.backends import open_backend
from finetune.recipes import ExportRecipe
from finetune.settings import InferenceSettings, TensorRTSettings


class Recorder:
    """Takes any call and remembers it."""

    def __init__(self):
        self.calls = {}

    def __getattr__(self, name):
        return lambda *args, **kwargs: self.calls.update({name: (args, kwargs)})


def test_cpu_uses_onednn_and_threads():
    config = Recorder()
    configure(config, InferenceSettings(bfloat16=True), 3, PrecisionType)
    assert config.calls["set_cpu_math_library_num_threads"] == ((3,), {})
    assert {"disable_gpu", "enable_mkldnn", "enable_mkldnn_bfloat16"} <= set(config.calls)


def test_gpu_uses_tensorrt_with_dynamic_shapes():
    config = Recorder()
    trt = TensorRTSettings(precision="float16", max_batch=16, max_length=64)
    configure(config, InferenceSettings(device="gpu", tensorrt=trt), 1, PrecisionType)
    _, options = config.calls["enable_tensorrt_engine"]
    assert options["precision_mode"] == PrecisionType.Half
    assert options["max_batch_size"] == 16
    (smallest, largest, usual), _ = config.calls["set_trt_dynamic_shape_info"]
    assert smallest["input_ids"] == [1, 2]
    assert largest["token_type_ids"] == [16, 64]
    assert usual["input_ids"] == [16, 32]
    assert "enable_mkldnn" not in config.calls


def test_a_gpu_export_on_a_cpu_says_so(tmp_path, static_dir):
    shutil.copytree(static_dir, tmp_path / "m")
    path = tmp_path / "m" / "deploy.json"
    deploy = json.loads(path.read_text())
    deploy["inference"]["device"] = "gpu"
    path.write_text(json.dumps(deploy))
    with pytest.raises(UserError, match=r"inference\.device: cpu"):
        open_backend(tmp_path / "m")


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
