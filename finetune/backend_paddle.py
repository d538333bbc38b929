"""Backends that need Paddle: the dynamic model, and Paddle Inference on its static graph."""

from pathlib import Path

import numpy as np

from data_pipeline.base.errors import UserError


class DynamicBackend:
    """The classifier itself, layer by layer: slow, and what the others are compared with."""

    def __init__(self, directory: Path):
        from finetune import classifier

        self.model = classifier.load(directory).model
        self.model.eval()

    def logits(self, input_ids: np.ndarray, token_type_ids: np.ndarray) -> np.ndarray:
        """float32 [B, classes]."""
        import paddle

        with paddle.no_grad():
            return self.model(paddle.to_tensor(input_ids), paddle.to_tensor(token_type_ids)).numpy()


class InferenceBackend:
    """Paddle Inference: oneDNN on a CPU."""

    def __init__(self, directory: Path, threads: int = 2):
        from paddle import inference

        graph, weights = directory / "model.json", directory / "model.pdiparams"
        for path in (graph, weights):
            if not path.is_file():
                raise UserError(f"{path}: missing; `export` with format: paddle writes it")
        config = inference.Config(str(graph), str(weights))
        config.disable_gpu()
        config.disable_glog_info()
        config.enable_mkldnn()
        config.set_cpu_math_library_num_threads(threads)
        self.predictor = inference.create_predictor(config)

    def logits(self, input_ids: np.ndarray, token_type_ids: np.ndarray) -> np.ndarray:
        """float32 [B, classes]."""
        values = {"input_ids": input_ids, "token_type_ids": token_type_ids}
        for name in self.predictor.get_input_names():
            self.predictor.get_input_handle(name).copy_from_cpu(np.ascontiguousarray(values[name]))
        self.predictor.run()
        output = self.predictor.get_output_names()[0]
        return self.predictor.get_output_handle(output).copy_to_cpu()
