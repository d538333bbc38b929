"""Every session of ONNX Runtime in the package has the same settings."""

import numpy as np
import onnxruntime
import pytest

from finetune.deploy.backends import OnnxBackend
from finetune.deploy.onnx_graph import simplified
from finetune.deploy.onnx_session import DISABLED, open_session
from finetune.deploy.text_in import check_text_in
from finetune.quantise.observe import observe
from finetune.recipes import TextInRecipe


@pytest.fixture
def opened(monkeypatch):
    """(options, providers, disabled optimisers) of all sessions that are opened in the test."""
    sessions, open_really = [], onnxruntime.InferenceSession

    def remember(model, options, providers, disabled_optimizers=None):
        sessions.append((options, providers, disabled_optimizers))
        return open_really(
            model, options, providers=providers, disabled_optimizers=disabled_optimizers
        )

    monkeypatch.setattr(onnxruntime, "InferenceSession", remember)
    return sessions


def of_a_model(path, tmp_path):
    OnnxBackend(path, threads=3)


def of_a_profile(path, tmp_path):
    OnnxBackend(path, profile=tmp_path / "profile")


def of_calibration(path, tmp_path):
    ids = np.array([[2, 7, 3]])
    observe(path, ["input_ids"], [{"input_ids": ids, "token_type_ids": np.zeros_like(ids)}])


def of_simplifying(path, tmp_path):
    simplified(path, tmp_path / "simple.onnx")


def of_strings(path, tmp_path):
    recipe = TextInRecipe(output_dir=tmp_path, model=path.parent)
    with pytest.raises(Exception, match=r"Failed to load|protobuf|INVALID"):
        check_text_in(recipe, 16, b"no model", path)


@pytest.mark.parametrize(
    "use", [of_a_model, of_a_profile, of_calibration, of_simplifying, of_strings]
)
def test_threads_stop_spinning_after_a_call_and_the_log_is_quiet(use, onnx_dir, tmp_path, opened):
    use(onnx_dir / "model.onnx", tmp_path)
    assert opened
    for options, providers, _ in opened:
        assert options.get_session_config_entry("session.force_spinning_stop") == "1"
        assert options.log_severity_level == 3
        assert providers == ["CPUExecutionProvider"]


def test_threads_profile_and_optimisers_are_those_asked_for(onnx_dir, tmp_path, opened):
    path = onnx_dir / "model.onnx"
    open_session(path, 3, profile=tmp_path / "profile", disabled=())
    open_session(path.read_bytes())
    (first, _, none), (second, _, disabled) = opened
    assert (first.intra_op_num_threads, second.intra_op_num_threads) == (3, 0)
    assert (first.enable_profiling, second.enable_profiling) == (True, False)
    assert first.profile_file_prefix == str(tmp_path / "profile")
    assert (none, disabled) == ([], list(DISABLED))
