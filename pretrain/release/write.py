"""Write encoders as directories: a teacher's, and the released `ppminilm-6l-768h` with its card."""

import json
import shutil
import tempfile
from pathlib import Path

import paddle
from paddle import nn

from data_pipeline.base import recipes
from data_pipeline.base.errors import UserError
from data_pipeline.base.files import sha256, write_atomically, write_json
from data_pipeline.text import vocab
from pretrain.encoders import weights
from pretrain.encoders.load import load_encoder
from pretrain.encoders.student import (
    Vocabulary,
    build_student,
    freeze_unreached,
    parameters,
    seed_everything,
)
from pretrain.recipe import DistillRecipe
from pretrain.release.model_card import model_card
from pretrain.training import checkpoint
from pretrain.training.metrics import read_metrics

PREFIX = "encoder."  # the student inside the objective whose weights a checkpoint holds


def write_encoder(encoder: nn.Layer, directory: Path, vocab: Path) -> None:
    """config.json, model.safetensors, vocab.txt and tokenizer_config.json: what a teacher has.

    The weights come last, so that a directory that has them is whole.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    name = type(encoder).__name__
    config = {**json.loads(encoder.config.to_json_string()), "architectures": [name]}
    write_json(directory / "config.json", config)
    shutil.copyfile(vocab, directory / "vocab.txt")
    tokenizer = {"do_lower_case": True, "tokenizer_class": name.replace("Model", "Tokenizer")}
    write_json(directory / "tokenizer_config.json", tokenizer)
    weights.write(directory / weights.WEIGHTS, encoder.state_dict())


def release(run: Path, output: Path, untrained: bool = False) -> dict:
    """Write the student of a run's newest checkpoint to `output`; return what release.json holds.

    `untrained` writes the student as it was before the first step, for comparison. Stock PaddleNLP
    reads the directory: `PPMiniLMModel.from_pretrained(output)`.
    """
    recipe = recipes.load(DistillRecipe, run / "recipe.resolved.yaml")
    saved = checkpoint.newest(run / "checkpoints")
    if saved is None:
        raise UserError(f"{run}: no complete checkpoint; train it first with pretrain/run.py")
    state = saved.state()
    student = initial_student(recipe, run / "vocab.txt", with_teacher=untrained)
    frozen = freeze_unreached(student, recipe.student.layer, recipe.relations.hidden > 0)
    if not untrained:
        tensors = weights.read(saved.path / "model.safetensors")
        encoder_tensors = {
            name.removeprefix(PREFIX): value
            for name, value in tensors.items()
            if name.startswith(PREFIX)
        }
        weights.load_into(student, encoder_tensors, str(saved.path))
    output.mkdir(parents=True, exist_ok=True)
    # Stock PaddleNLP opens this file; this project never does.
    with tempfile.TemporaryDirectory(dir=output) as folder:
        paddle.save(student.state_dict(), f"{folder}/model_state.pdparams")
        Path(f"{folder}/model_state.pdparams").replace(output / "model_state.pdparams")
    write_encoder(student, output, run / "vocab.txt")
    facts = {
        "name": output.name,
        "steps": 0 if untrained else saved.step,
        "parameters": parameters(student),
        "untrained_weights": [n for n, _ in student.named_parameters()]
        if untrained and not recipe.student.from_teacher_layers
        else frozen,
        "data_fingerprint": state["data_fingerprint"],
        "vocab_sha256": state["vocab_sha256"],
        "recipe": recipe.model_dump(mode="json"),
        "metrics": {} if untrained else last_metrics(run, saved.step),
        "sha256": {
            name: sha256(output / name)
            for name in ("config.json", "model.safetensors", "model_state.pdparams", "vocab.txt")
        },
    }
    write_atomically(output / "README.md", model_card(facts))
    write_json(output / "release.json", facts)
    return facts


def initial_student(recipe: DistillRecipe, vocabulary: Path, with_teacher: bool) -> nn.Layer:
    """The student of a recipe as it is before the first step.

    The teacher is loaded only if the student starts from it and `with_teacher` asks for that.
    """
    sizes, teacher = recipe.student, None
    if sizes.from_teacher_layers and with_teacher:
        teacher = load_encoder(recipe.teacher.path, recipe.teacher.weights)
    elif sizes.from_teacher_layers:
        sizes = sizes.model_copy(update={"from_teacher_layers": ()})
    tokens = vocab.read(vocabulary)
    seed_everything(recipe.seed)
    return build_student(
        sizes,
        Vocabulary(len(tokens), vocab.special_ids(tokens)),
        teacher,
        recipe.relations.hidden > 0,
    )


def last_metrics(run: Path, step: int) -> dict:
    """The last record of metrics.jsonl up to `step`."""
    records = [r for r in read_metrics(run / "metrics.jsonl") if r["step"] <= step]
    return records[-1] if records else {}
