"""Backends that need Paddle: the dynamic model, and Paddle Inference on its static graph."""

from pathlib import Path

import numpy as np

from data_pipeline.base.errors import UserError
from finetune.settings import InferenceSettings


class DynamicBackend:
    """The model itself, layer by layer: slow, and what the others are compared with."""

    def __init__(self, model):
        self.model = model
        self.model.eval()

    def logits(self, input_ids: np.ndarray, token_type_ids: np.ndarray) -> np.ndarray:
        """float32 [B, classes]."""
        import paddle

        with paddle.no_grad():
            return self.model(paddle.to_tensor(input_ids), paddle.to_tensor(token_type_ids)).numpy()


class InferenceBackend:
    """Paddle Inference on a static graph: oneDNN on a CPU, or a GPU."""

    def __init__(self, directory: Path, settings: InferenceSettings, threads: int = 2):
        import paddle
        from paddle import inference

        graph, weights = directory / "model.json", directory / "model.pdiparams"
        for path in (graph, weights):
            if not path.is_file():
                raise UserError(f"{path}: missing; `export` with format: paddle writes it")
        if settings.device == "gpu" and not paddle.is_compiled_with_cuda():
            raise UserError(
                f"{directory}: exported for a GPU, and this Paddle has none; "
                "install the GPU build or export with inference.device: cpu"
            )
        config = inference.Config(str(graph), str(weights))
        config.disable_glog_info()
        configure(config, settings, threads)
        self.predictor = inference.create_predictor(config)

    def logits(self, input_ids: np.ndarray, token_type_ids: np.ndarray) -> np.ndarray:
        """float32 [B, classes]."""
        values = {"input_ids": input_ids, "token_type_ids": token_type_ids}
        for name in self.predictor.get_input_names():
            self.predictor.get_input_handle(name).copy_from_cpu(np.ascontiguousarray(values[name]))
        self.predictor.run()
        output = self.predictor.get_output_names()[0]
        return self.predictor.get_output_handle(output).copy_to_cpu()


def configure(config, settings: InferenceSettings, threads: int) -> None:
    """Put `settings` into a `paddle.inference.Config`."""
    if settings.device == "gpu":
        config.enable_use_gpu(settings.memory_mb, 0)
        return
    config.disable_gpu()
    config.enable_mkldnn()
    if settings.bfloat16:
        config.enable_mkldnn_bfloat16()
    config.set_cpu_math_library_num_threads(threads)
