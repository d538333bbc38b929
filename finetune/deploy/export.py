"""From a classifier directory to a static graph that can be deployed: Paddle's own or ONNX."""

import shutil
from pathlib import Path

import numpy as np

from data_pipeline.base.errors import UserError
from data_pipeline.base.files import write_json
from data_pipeline.text import tokenizer
from finetune.deploy.formats import FORMATS, Source
from finetune.recipes import ExportRecipe
from finetune.training.files import ACTIVATION_SCALES


def export_classifier(recipe: ExportRecipe, directory: Path) -> None:
    """Write the deployable form of `recipe.classifier` into `directory`.

    UserError when its logits differ from the classifier's by more than `recipe.check_tolerance`.
    """
    from finetune.deploy.deployed import deployed_form
    from finetune.training import classifier
    from pretrain.encoders.student import parameters

    loaded = classifier.load(recipe.classifier)
    form = FORMATS[recipe.format]
    tokenizer.copy(loaded.tokenizer, directory)
    max_length = loaded.result.get("max_length", 128)
    form.write(
        Source(
            loaded.model,
            loaded.labels,
            loaded.tokenizer,
            max_length,
            lambda folder: save_static(deployed_form(loaded.model), folder),
        ),
        directory,
    )
    scales = Path(recipe.classifier) / ACTIVATION_SCALES  # of quantisation-aware training
    if scales.exists():
        shutil.copyfile(scales, directory / ACTIVATION_SCALES)
    write_json(directory / "labels.json", loaded.labels)
    deploy = {
        "backend": form.backend,
        "kind": loaded.model.kind,
        "precision": "fp32",
        "max_length": max_length,
        "parameters": parameters(loaded.model),
        "origin": str(recipe.classifier),
    }
    if recipe.format == "paddle":
        deploy["inference"] = recipe.inference.model_dump(mode="json")
    write_json(directory / "deploy.json", deploy)
    check_logits(loaded.model, directory, recipe.check_tolerance)


def save_static(layer, directory: Path) -> None:
    """model.json and model.pdiparams of a layer from ids to logits; dynamic batch and length."""
    import paddle

    ids = paddle.static.InputSpec([None, None], "int64", "input_ids")
    types = paddle.static.InputSpec([None, None], "int64", "token_type_ids")
    layer.eval()
    static = paddle.jit.to_static(layer, input_spec=[ids, types], full_graph=True)
    paddle.jit.save(static, str(directory / "model"))


def check_logits(model, directory: Path, tolerance: float) -> None:
    """UserError unless the exported graph and the dynamic model agree on two shapes of input."""
    import paddle

    from finetune.deploy.backends import open_backend

    backend = open_backend(directory)
    model.eval()
    random = np.random.default_rng(0)
    for shape in ((1, 8), (3, 33)):
        ids = random.integers(5, model.encoder.config.vocab_size, shape)
        ids[-1, shape[1] // 2 :] = model.encoder.config.pad_token_id
        types = np.zeros_like(ids)
        with paddle.no_grad():
            expected = model(paddle.to_tensor(ids), paddle.to_tensor(types)).numpy()
        difference = float(np.abs(backend.logits(ids, types) - expected).max())
        if not difference <= tolerance:
            raise UserError(
                f"{directory}: the exported logits differ by {difference:.2g} from the "
                f"classifier's, more than check_tolerance ({tolerance:g})"
            )
