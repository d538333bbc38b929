"""From a classifier or an encoder to a static graph that can be deployed: Paddle's own or ONNX."""

import shutil
from pathlib import Path

import numpy as np

from data_pipeline.base.errors import UserError
from data_pipeline.base.files import write_json
from data_pipeline.text import tokenizer
from finetune.deploy.formats import FORMATS, Source
from finetune.recipes import ExportRecipe
from finetune.training.files import ACTIVATION_SCALES
from finetune.training.kinds import KINDS
from finetune.training.label_set_data import THRESHOLD


def export_model(recipe: ExportRecipe, directory: Path) -> None:
    """Write the deployable form of the recipe's classifier or encoder into `directory`.

    UserError when its outputs differ from the model's by more than `recipe.check_tolerance`.
    """
    from pretrain.encoders.student import parameters

    source, more = opened_encoder(recipe) if recipe.encoder else opened_classifier(recipe)
    form = FORMATS[recipe.format]
    tokenizer.copy(source.tokenizer, directory)
    form.write(source, directory)
    scales = recipe.model / ACTIVATION_SCALES  # of quantisation-aware training
    if scales.exists():
        shutil.copyfile(scales, directory / ACTIVATION_SCALES)
    if source.labels:
        write_json(directory / "labels.json", source.labels)
    deploy = {
        "backend": recipe.inference.runtime or form.backends[0],
        "kind": source.model.kind,
        "precision": "fp32",
        "max_length": source.max_length,
        "parameters": parameters(source.model),
        "origin": str(recipe.model),
        **more,
    }
    if recipe.format != "hf":
        deploy["inference"] = recipe.inference.model_dump(mode="json")
    write_json(directory / "deploy.json", deploy)
    check_outputs(source.model, directory, recipe.check_tolerance)


def opened_classifier(recipe: ExportRecipe) -> tuple[Source, dict]:
    """(the recipe's classifier, what deploy.json says of it besides)."""
    from finetune.training import classifier

    loaded = classifier.load(recipe.model)
    max_length = loaded.result.get("max_length", 128)
    more = {name: loaded.result[name] for name in (THRESHOLD,) if name in loaded.result}
    return source_of(loaded.model, loaded.labels, loaded.tokenizer, max_length), more


def opened_encoder(recipe: ExportRecipe) -> tuple[Source, dict]:
    """(the recipe's encoder with its pooling, what deploy.json says of it besides)."""
    from finetune.deploy.sentence_encoder import load_sentence_encoder

    settings = recipe.embedding
    model = load_sentence_encoder(recipe.model, settings)
    source = source_of(model, [], recipe.model, settings.max_length)
    return source, {"embedding": settings.model_dump(mode="json")}


def source_of(model, labels: list[str], tokenizer_dir: Path, max_length: int) -> Source:
    """A model, ready for any of FORMATS."""
    from finetune.deploy.deployed import deployed_form

    return Source(
        model,
        labels,
        tokenizer_dir,
        max_length,
        KINDS[model.kind].problem_type if model.kind in KINDS else None,
        lambda folder: save_static(deployed_form(model), folder),
    )


def save_static(layer, directory: Path) -> None:
    """model.json and model.pdiparams of a layer from ids to logits or vectors, for any batch."""
    import paddle

    ids = paddle.static.InputSpec([None, None], "int64", "input_ids")
    types = paddle.static.InputSpec([None, None], "int64", "token_type_ids")
    layer.eval()
    static = paddle.jit.to_static(layer, input_spec=[ids, types], full_graph=True)
    paddle.jit.save(static, str(directory / "model"))


def check_outputs(model, directory: Path, tolerance: float) -> None:
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
                f"{directory}: the exported outputs differ by {difference:.2g} from the "
                f"model's, more than check_tolerance ({tolerance:g})"
            )
