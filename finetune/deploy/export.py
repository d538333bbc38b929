"""From a classifier directory to a static graph that serves: Paddle's own and ONNX."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from data_pipeline.base.errors import UserError
from data_pipeline.base.files import write_json
from finetune.quantise.qat_scales import FILE as SCALES
from finetune.recipes import ExportRecipe

OPSET = 17  # the first with LayerNormalization as one operator


def make(recipe: ExportRecipe, directory: Path) -> None:
    """Fill `directory` with the deployable form of `recipe.classifier`."""
    from finetune.deploy.deployed import Deployed
    from finetune.training import classifier
    from pretrain.encoders.student import parameters

    stored = classifier.load(recipe.classifier)
    static = directory / "static"
    save_static(Deployed(stored.model), static)
    if recipe.format == "onnx":
        to_onnx(static, directory / "model.onnx")
        shutil.rmtree(static)
    else:
        for path in static.iterdir():
            path.replace(directory / path.name)
        static.rmdir()
    shutil.copyfile(stored.vocab, directory / "vocab.txt")
    if (Path(recipe.classifier) / SCALES).exists():  # of quantisation-aware training
        shutil.copyfile(Path(recipe.classifier) / SCALES, directory / SCALES)
    write_json(directory / "labels.json", stored.labels)
    deploy = {
        "backend": "onnxruntime" if recipe.format == "onnx" else "paddle_inference",
        "precision": "fp32",
        "max_length": stored.result.get("max_length", 128),
        "parameters": parameters(stored.model),
        "origin": str(recipe.classifier),
    }
    if recipe.format == "paddle":
        deploy["inference"] = recipe.inference.model_dump(mode="json")
    write_json(directory / "deploy.json", deploy)
    _check(stored.model, directory, recipe.check_tolerance)


def save_static(layer, directory: Path) -> None:
    """model.json and model.pdiparams of a layer from ids to logits; dynamic batch and length."""
    import paddle

    ids = paddle.static.InputSpec([None, None], "int64", "input_ids")
    types = paddle.static.InputSpec([None, None], "int64", "token_type_ids")
    layer.eval()
    static = paddle.jit.to_static(layer, input_spec=[ids, types], full_graph=True)
    paddle.jit.save(static, str(directory / "model"))


def to_onnx(static: Path, output: Path) -> None:
    """Convert with paddle2onnx, in a process of its own since a failure there can abort it."""
    arguments = ["--model_dir", str(static), "--model_filename", "model.json"]
    arguments += ["--params_filename", "model.pdiparams", "--save_file", str(output)]
    arguments += ["--opset_version", str(OPSET), "--enable_auto_update_opset", "False"]
    code = "import sys; from paddle2onnx.command import main; sys.argv[0] = 'paddle2onnx'; main()"
    # without this, paddle2onnx's constant folding installs packages while it runs
    environment = os.environ | {"POLYGRAPHY_AUTOINSTALL_DEPS": "0"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or not output.exists():
        raise UserError(
            f"paddle2onnx ended with {done.returncode}:\n{(done.stderr or done.stdout)[-2000:]}"
        )


def _check(model, directory: Path, tolerance: float) -> None:
    """The exported graph and the dynamic model agree on two shapes of input."""
    import numpy as np
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
            wanted = model(paddle.to_tensor(ids), paddle.to_tensor(types)).numpy()
        difference = float(np.abs(backend.logits(ids, types) - wanted).max())
        if not difference <= tolerance:
            raise UserError(f"{directory}: the exported logits differ by {difference:.2g}")
