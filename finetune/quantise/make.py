"""From an exported FP32 model to an INT8 one that is let through only if it is good enough."""

import shutil
from pathlib import Path

from data_pipeline.base.errors import UserError
from data_pipeline.base.files import write_json
from finetune.settings import QuantiseRecipe
from finetune.tasks import open_task


def make(recipe: QuantiseRecipe, directory: Path) -> None:
    """Fill `directory` with the INT8 form of `recipe.model`."""
    from finetune.backends import read_deploy
    from finetune.quantise.onnx_int8 import quantise_dynamic

    source = Path(recipe.model)
    if not (source / "model.onnx").is_file():
        raise UserError(f"{source}: no model.onnx; INT8 is made from an ONNX export")
    quantise_dynamic(
        source / "model.onnx", directory / "model.onnx", per_channel=recipe.quantise.per_channel
    )
    for name in ("vocab.txt", "labels.json"):
        shutil.copyfile(source / name, directory / name)
    deploy = read_deploy(source) | {"precision": "int8", "mode": recipe.quantise.mode}
    write_json(directory / "deploy.json", deploy)
    write_json(directory / "deploy.json", deploy | {"gate": _gate(recipe, directory)})


def _gate(recipe: QuantiseRecipe, directory: Path) -> dict[str, float]:
    """Dev accuracy before and after; UserError when too much is lost."""
    from finetune.batches import encode
    from finetune.predict import Predictor
    from finetune.scores import scores

    examples = open_task(recipe.task).split("dev")
    accuracy = {}
    for name, path in (("fp32", recipe.model), ("int8", directory)):
        predictor = Predictor(path)
        data = encode(predictor.encoder, examples, predictor.max_length)
        accuracy[name] = scores(predictor.encoded_logits(data), data.labels)["accuracy"]
    drop = 100 * (accuracy["fp32"] - accuracy["int8"])
    allowed = recipe.quantise.allowed_drop
    if allowed is not None and drop > allowed:
        raise UserError(f"INT8 loses {drop:.2f} points on dev; quantise.allowed_drop is {allowed}")
    return {**accuracy, "drop_points": round(drop, 3)}
