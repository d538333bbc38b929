"""What can be known to be wrong with a recipe before a model is built. Reads only small files and
the headers of large ones, and does not import Paddle.

Each check yields (message, fields): the fields are what it depends on, first the one to change.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from data_pipeline.base import recipes
from data_pipeline.base.errors import UserError
from data_pipeline.loading import order
from data_pipeline.loading.holdout import split
from data_pipeline.shards.format import Manifest
from data_pipeline.text import tokenizer, vocab
from pretrain.encoders import weights
from pretrain.encoders.config import (
    DEFAULT_SIZES,
    config_problems,
    family_of,
    first_position,
    locate,
    read_config,
)
from pretrain.recipe import DistillRecipe, MaskedLMRecipe
from pretrain.training.checkpoint import complete, folder
from pretrain.training.same_run import WRITTEN
from pretrain.training.settings import TrainingRecipe

R = TypeVar("R", bound=TrainingRecipe)
Problem = tuple[str, tuple[str, ...]]

# In place of fields that have no default, so that the rest of a recipe without them is checked.
PLACEHOLDERS = {
    "output_dir": "output_dir",
    "model_dir": "model_dir",
    "data.shards": "shards",
    "teacher.path": "teacher",
    "teacher.layer": 1,
}


def kind_of(path: Path | str) -> type[TrainingRecipe]:
    """Whether a file is a recipe of distillation or of masked-language-model pre-training."""
    keys = recipes.read_yaml(Path(path)).keys()
    return MaskedLMRecipe if {"masking", "encoder", "model_dir"} & keys else DistillRecipe


def read(
    kind: type[R], path: Path | str, overrides: list[str] | None = None
) -> tuple[R | None, dict[str, str]]:
    """The recipe in a file, wrong fields replaced, and what is wrong with each of them."""
    return recipes.examine(kind, recipes.values_of(path, overrides), PLACEHOLDERS)


def problems(
    recipe: TrainingRecipe | None, world_size: int, wrong: dict[str, str] | None = None
) -> list[str]:
    """All problems at once, each with its field, its value and what would be valid.

    `wrong` is what `read` returned; what depends on those fields is not checked.
    """
    wrong = wrong or {}
    texts = [text for text in wrong.values() if text]
    for text, fields in environment_problems(recipe, world_size) if recipe else ():
        if not any(_overlap(field, other) for field in fields for other in wrong):
            texts.append(f"{fields[0]}: {text}")
    return texts


def _overlap(one: str, other: str) -> bool:
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def environment_problems(recipe: TrainingRecipe, world_size: int) -> Iterator[Problem]:
    """What does not fit between a recipe that is right in itself, its files and its ranks."""
    yield from share_problems(recipe, world_size)
    yield from place_problems(recipe)
    yield from initial_problems(recipe)
    manifest = None
    try:
        manifest = Manifest.read(recipe.data.shards)
    except UserError as error:
        yield str(error), ("data.shards",)
    if manifest is not None:
        yield from shard_problems(recipe.data.shards, manifest)
        yield from data_problems(recipe, manifest)
    if isinstance(recipe, DistillRecipe):
        heads, width = recipe.relations.heads, recipe.student.hidden_size
        yield from heads_problems(heads, "student", width, "student.hidden_size")
        yield from teacher_problems(recipe, manifest)


def share_problems(recipe: TrainingRecipe, world_size: int) -> Iterator[Problem]:
    """Groups must be shared evenly by the ranks, and by the micro-batches of a rank."""
    batch = recipe.batch
    sizes = batch.global_batch_size, batch.relation_group_size
    problem = order.share_problem(*sizes, world_size, batch.groups_per_micro_batch)
    if problem:
        names = ("global_batch_size", "relation_group_size", "groups_per_micro_batch")
        others = [f"batch.{name}" for name in names if name != problem[0]]
        yield problem[1], (f"batch.{problem[0]}", *others)
        return
    parts = recipe.ranks_per_group(world_size)
    if isinstance(recipe, DistillRecipe) and recipe.relations.heads % parts:
        yield (
            f"{recipe.relations.heads} heads cannot be divided among the {parts} ranks that share "
            f"a relation group; a multiple of {parts} can",
            ("relations.heads", "batch.global_batch_size", "batch.relation_group_size"),
        )


def place_problems(recipe: TrainingRecipe) -> Iterator[Problem]:
    """A directory that is to be written is not a file."""
    for field in WRITTEN:
        path = getattr(recipe, field, None)
        for place in (path, *path.parents) if path else ():
            try:
                if place.is_file():
                    yield f"{path}: {place} is a file, not a directory", (field,)
            except OSError as error:
                yield f"{path}: {error.strerror}", (field,)
                break


def initial_problems(recipe: TrainingRecipe) -> Iterator[Problem]:
    """Weights to start from are there, unless the run has gone past its start."""
    if recipe.init_from and not complete(folder(recipe.output_dir)):
        try:
            weights.shapes(recipe.init_from)
        except UserError as error:
            yield str(error), ("init_from",)


def shard_problems(directory: Path, manifest: Manifest) -> Iterator[Problem]:
    """Each shard is there with the size that it was written with."""
    for shard in manifest.shards:
        path = directory / shard.file
        size = path.stat().st_size if path.is_file() else None
        if size is None:
            yield f"{path} is not there, but the manifest names it", ("data.shards",)
        elif size != shard.bytes:
            yield f"{path} has {size} bytes, but was written with {shard.bytes}", ("data.shards",)


def data_problems(recipe: TrainingRecipe, manifest: Manifest) -> Iterator[Problem]:
    """Enough samples, and enough positions for the longest."""
    group_size, holdout = recipe.batch.relation_group_size, recipe.data.holdout_samples
    try:
        held = split(recipe.data.shards, manifest, holdout, group_size)
        if held.directory != recipe.data.shards:
            yield from shard_problems(held.directory, Manifest.read(held.directory))
    except UserError as error:
        yield str(error), ("data.shards",)
        return
    samples = held.trained_samples
    if samples < recipe.batch.global_batch_size:
        without = f" without the holdout of {holdout}" if samples < manifest.samples else ""
        yield (
            f"{recipe.batch.global_batch_size}, but {recipe.data.shards} holds "
            f"{samples} samples{without}, and can give no more at a time",
            ("batch.global_batch_size", "data.shards", "data.holdout_samples"),
        )
    if 0 < holdout < group_size:
        yield (
            f"{holdout} is less than one relation group of {group_size}",
            ("data.holdout_samples", "batch.relation_group_size"),
        )
    elif holdout and len(held.numbers) == 0:
        yield (
            f"{held.directory} holds less than one relation group of {group_size} samples; hold "
            "out more documents in the build, or set data.holdout_samples to 0",
            ("data.holdout_samples", "batch.relation_group_size"),
        )
    name = "student" if isinstance(recipe, DistillRecipe) else "encoder"
    positions = getattr(recipe, name).max_position_embeddings
    if positions < manifest.max_length:
        yield (
            f"{positions} is less than the shards' max_length {manifest.max_length}",
            (f"{name}.max_position_embeddings", "data.shards"),
        )


def heads_problems(heads: int, name: str, width: int, field: str) -> Iterator[Problem]:
    """Relation heads must divide both widths."""
    if width % heads:
        divisors = order.divisors(width)
        text = f"{heads} does not divide the {name}'s hidden_size {width}; {divisors} would"
        yield text, ("relations.heads", field)


def teacher_problems(recipe: DistillRecipe, manifest: Manifest | None) -> Iterator[Problem]:
    """The teacher is there, has the layers and widths asked for, and the shards' vocabulary."""
    directory = locate(recipe.teacher.path)
    try:
        config = read_config(directory)
        family = family_of(config, str(directory))
        wrong = [f"{directory}/config.json: {text}" for text in config_problems(config)]
    except UserError as error:
        wrong = [str(error)]
    if wrong:
        yield from ((text, ("teacher.path",)) for text in wrong)
        return
    sizes = DEFAULT_SIZES | config
    heads, width = recipe.relations.heads, sizes["hidden_size"]
    yield from heads_problems(heads, "teacher", width, "teacher.path")
    yield from weight_problems(recipe, directory, sizes)
    yield from layer_problems(recipe, sizes)
    yield from copy_problems(recipe, sizes)
    if manifest is not None:
        yield from vocabulary_problems(directory, config, manifest)
        positions = sizes["max_position_embeddings"] - first_position(
            family, config.get("pad_token_id", 0)
        )
        if positions < manifest.max_length:
            yield (
                f"{directory} has positions for {positions} tokens, "
                f"the shards' max_length is {manifest.max_length}",
                ("teacher.path", "data.shards"),
            )


def weight_problems(recipe: DistillRecipe, directory: Path, sizes: dict) -> Iterator[Problem]:
    """The file of the weights is there, whole as far as its header says, and has all layers."""
    fields = ("teacher.weights", "teacher.path")
    try:
        shapes = weights.shapes(directory, recipe.teacher.weights)
    except UserError as error:
        yield str(error), fields
        return
    numbers = [re.search(r"encoder\.layers?\.(\d+)\.", name) for name in shapes]
    layers = 1 + max((int(number[1]) for number in numbers if number), default=-1)
    if shapes and layers != sizes["num_hidden_layers"]:
        yield (
            f"{directory}: the weights have {layers} layers, its config.json says "
            f"{sizes['num_hidden_layers']}",
            fields,
        )


def layer_problems(recipe: DistillRecipe, sizes: dict) -> Iterator[Problem]:
    """Layers that are asked for are there."""
    layers = sizes["num_hidden_layers"]
    for field, layer in (
        ("teacher.layer", recipe.teacher.layer),
        *(("student.from_teacher_layers", n) for n in recipe.student.from_teacher_layers),
    ):
        if not 1 <= layer <= layers:
            yield f"{layer}; the teacher has layers 1 to {layers}", (field, "teacher.path")


def copy_problems(recipe: DistillRecipe, sizes: dict) -> Iterator[Problem]:
    """A student that starts from the teacher's layers has the teacher's sizes."""
    if not recipe.student.from_teacher_layers:
        return
    width = sizes["hidden_size"]
    if sizes.get("embedding_size", width) != width:
        yield (
            f"the teacher's embeddings are {sizes['embedding_size']} wide and its layers {width}; "
            "copying needs equal widths",
            ("student.from_teacher_layers", "teacher.path"),
        )
    for name in ("hidden_size", "num_attention_heads", "intermediate_size"):
        own = getattr(recipe.student, name)
        if own != sizes[name]:
            yield (
                f"{own}, but a student that starts from the teacher's layers needs the teacher's "
                f"{sizes[name]}",
                (f"student.{name}", "student.from_teacher_layers", "teacher.path"),
            )


def vocabulary_problems(directory: Path, config: dict, manifest: Manifest) -> Iterator[Problem]:
    """The shards must have been made with the teacher's vocabulary."""
    fields = ("teacher.path", "data.shards")
    rows, entries = config.get("vocab_size", manifest.vocab_size), manifest.vocab_size
    if rows < entries:  # a table may have unused rows
        yield (
            f"{directory}: vocab_size {rows}, but the shards' vocabulary has {entries} entries",
            fields,
        )
    try:
        tokens, lower_case = tokenizer.read(directory)
    except UserError as error:
        yield str(error), fields
        return
    if vocab.sha256(tokens) != manifest.vocab_sha256:
        file = tokenizer.vocabulary_file(directory)
        yield (
            f"{file} is not the vocabulary that the shards were made with; "
            "build them with vocab.file set to it",
            fields,
        )
    if lower_case != manifest.lower_case:
        yield (
            f"{directory}: do_lower_case of the teacher is {str(lower_case).lower()}, but the "
            f"shards were made with vocab.lower_case {str(manifest.lower_case).lower()}; "
            "build them with the teacher's",
            fields,
        )
