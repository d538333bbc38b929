"""Sessions of ONNX Runtime, with the same settings wherever this package opens one."""

from collections.abc import Sequence
from pathlib import Path

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
# the fused operator takes 7 ms for 4,096 x 768; Add and LayerNormalization together take 2
DISABLED = ("SkipLayerNormFusion",)


def open_session(
    model: Path | bytes,
    threads: int = 0,
    *,
    profile: Path | None = None,
    providers: Sequence[str] = (CPU,),
    disabled: Sequence[str] = DISABLED,
):
    """A session of an ONNX file, or of the bytes of one; `threads` and `profile` are those of
    `session_options`. ONNX Runtime's own errors pass."""
    import onnxruntime

    return onnxruntime.InferenceSession(
        model if isinstance(model, bytes) else str(model),
        session_options(threads, profile),
        providers=list(providers),
        disabled_optimizers=list(disabled),
    )


def session_options(threads: int = 0, profile: Path | None = None):
    """The SessionOptions of every session.

    threads: those that compute one operator; 0: one a core. profile: how the path of the file
    begins that gets the time of every operator.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Else the threads spin for 20 ms after a call, on cores that other work wants: where models
    # took turns on two cores, calls of 1.5 ms had a median of 10 ms.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    return options
