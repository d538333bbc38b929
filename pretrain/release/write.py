"""Write encoders as directories: a teacher's, and the released `ppminilm-6l-768h` with its card."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import paddle
from paddle import nn

from data_pipeline.base import recipes
from data_pipeline.base.errors import UserError
from data_pipeline.base.files import sha256, write_atomically, write_json
from data_pipeline.shards.format import Manifest
from data_pipeline.text import tokenizer, vocab
from pretrain.encoders import weights
from pretrain.encoders.initial_weights import initialise
from pretrain.encoders.load import load_encoder
from pretrain.encoders.settings import InitialWeights
from pretrain.encoders.student import (
    Vocabulary,
    build_student,
    freeze_unreached,
    parameters,
    seed_everything,
)
from pretrain.recipe import DistillRecipe
from pretrain.release.hugging_face import WORDS, hugging_face_tensors, write_hugging_face
from pretrain.release.model_card import model_card
from pretrain.release.onnx_features import FILE as ONNX_FEATURES
from pretrain.release.onnx_features import write_onnx_features
from pretrain.training import checkpoint
from pretrain.training.finished import DATA_SUMMARY
from pretrain.training.records import read_metrics

TOKENIZER_FILES = (tokenizer.VOCABULARY, tokenizer.CONFIG)
PREFIX = "encoder."  # the student inside the objective whose weights a checkpoint holds


def write_encoder(
    encoder: nn.Layer, directory: Path, tokens: list[str], lower_case: bool = True
) -> None:
    """config.json, model.safetensors, vocab.txt and tokenizer_config.json: what a teacher has.

    tokens: the vocabulary, in the order of the ids; lower_case: whether texts are lower-cased
    before they are looked up. The weights come last, so that a directory that has them is whole.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    name = type(encoder).__name__
    config = {**json.loads(encoder.config.to_json_string()), "architectures": [name]}
    write_json(directory / "config.json", config)
    tokenizer.write(directory, tokens, lower_case, name.replace("Model", "Tokenizer"))
    weights.write(directory / weights.WEIGHTS, encoder.state_dict())


def release(
    run: Path, output: Path, untrained: bool = False, form: str = "paddlenlp", fresh: bool = False
) -> dict:
    """Write the student of a run's newest checkpoint to `output`; return what release.json holds.

    untrained: write the student as it was before the first step, for comparison.
    fresh: write it with drawn weights, whatever `initial_weights` and `from_teacher_layers` say.
    form: an entry of FORMATS. Stock PaddleNLP reads `paddlenlp` by
        `PPMiniLMModel.from_pretrained(output)`, transformers reads `hf` by
        `AutoModel.from_pretrained(output)`; this project reads both.
    """
    recipe = recipes.load(DistillRecipe, run / "recipe.resolved.yaml")
    if fresh:
        untrained, recipe = True, with_drawn_weights(recipe)
    saved = checkpoint.newest(run / "checkpoints")
    if saved is None:
        raise UserError(f"{run}: no complete checkpoint; train it first with pretrain/run.py")
    state, data = saved.state(), data_summary(run, recipe, saved.state()["data_fingerprint"])
    tokens = vocab.read(run / "vocab.txt")
    student = initial_student(recipe, tokens, before_training=untrained)
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
    files = FORMATS[form](student, output, tokens, data)
    facts = {
        "name": output.name,
        "format": form,
        "steps": 0 if untrained else saved.step,
        "parameters": parameters(student),
        "untrained_weights": [n for n, _ in student.named_parameters()]
        if untrained and not recipe.student.from_teacher_layers
        else frozen,
        "data_fingerprint": state["data_fingerprint"],
        "vocab_sha256": state["vocab_sha256"],
        "data": data,
        "relation_weights": recipe.relations.weights(),
        "recipe": recipe.model_dump(mode="json"),
        "metrics": {} if untrained else last_metrics(run, saved.step),
        "sha256": {name: sha256(output / name) for name in files},
    }
    write_atomically(output / "README.md", model_card(facts))
    write_json(output / "release.json", facts)
    return facts


def write_paddlenlp(student: nn.Layer, output: Path, tokens: list[str], data: dict) -> list[str]:
    """Write what stock PaddleNLP reads; names of the files."""
    # Stock PaddleNLP opens this file; this project never does.
    with tempfile.TemporaryDirectory(dir=output) as folder:
        paddle.save(student.state_dict(), f"{folder}/model_state.pdparams")
        Path(f"{folder}/model_state.pdparams").replace(output / "model_state.pdparams")
    write_encoder(student, output, tokens, data["lower_case"])
    names = ("config.json", "model.safetensors", "model_state.pdparams", *TOKENIZER_FILES)
    return list(names)


def write_hf(student: nn.Layer, output: Path, tokens: list[str], data: dict) -> list[str]:
    """Write what transformers, sentence-transformers and optimum read; names of the files."""
    files = write_hugging_face(student, output, tokens, data["lower_case"], data["max_length"])
    words = hugging_face_tensors(student)[WORDS]
    write_onnx_features(student, words, output / ONNX_FEATURES)
    return [*files, ONNX_FEATURES]


# Forms of a release. Each is a function of (student, directory, tokens, `data_summary`) that
# returns the names of the files whose checksums the model card lists.
FORMATS: dict[str, Callable[[nn.Layer, Path, list[str], dict], list[str]]] = {
    "paddlenlp": write_paddlenlp,
    "hf": write_hf,
}


def data_summary(run: Path, recipe: DistillRecipe, fingerprint: str) -> dict:
    """`Manifest.summary` of what the run was trained on, without the run's shards where possible.

    UserError when neither the run nor the directory of its shards has it.
    """
    path = run / DATA_SUMMARY
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    manifest = Manifest.read(recipe.data.shards)  # a run of an earlier version
    if manifest.fingerprint != fingerprint:
        raise UserError(
            f"{run}: no {DATA_SUMMARY}, and {recipe.data.shards} holds other shards than those "
            "that it was trained on; put these back"
        )
    return manifest.summary()


def initial_student(recipe: DistillRecipe, tokens: list[str], before_training: bool) -> nn.Layer:
    """The student of a recipe as it is before the first step.

    Weights that come from the teacher or the shards are read only if `before_training` asks for
    that; otherwise all are drawn.
    """
    if not before_training:
        recipe = with_drawn_weights(recipe)
    teacher = None
    if recipe.student.from_teacher_layers:
        teacher = load_encoder(recipe.teacher.path, recipe.teacher.weights)
    seed_everything(recipe.seed)
    special_ids = vocab.special_ids(tokens)
    vocabulary = Vocabulary(len(tokens), special_ids)
    student = build_student(recipe.student, vocabulary, teacher, recipe.relations.hidden > 0)
    shards = recipe.data.shards
    initialise(student, recipe.initial_weights, shards, special_ids.values(), recipe.seed)
    return student


def with_drawn_weights(recipe: DistillRecipe) -> DistillRecipe:
    """The same recipe with a student that starts from drawn weights."""
    student = recipe.student.model_copy(update={"from_teacher_layers": ()})
    return recipe.model_copy(update={"student": student, "initial_weights": InitialWeights()})


def last_metrics(run: Path, step: int) -> dict:
    """The last record of metrics.jsonl up to `step`."""
    records = [r for r in read_metrics(run / "metrics.jsonl") if r["step"] <= step]
    return records[-1] if records else {}
