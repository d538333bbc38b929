"""What can be known to be wrong with a recipe before a model is built. Reads only small files."""

from pathlib import Path

from data_pipeline import vocab
from data_pipeline.base.errors import UserError
from data_pipeline.shards import Manifest
from pretrain.recipe import DistillRecipe, Run


def problems(recipe: Run, world_size: int) -> list[str]:
    """All problems at once, each with its field, its value and what would be valid."""
    found: list[str] = []
    groups = recipe.batch.global_batch_size // recipe.batch.relation_group_size
    found += share_problems(groups, recipe.batch.groups_per_micro_batch, world_size)
    manifest = None
    try:
        manifest = Manifest.read(recipe.data.shards)
    except UserError as error:
        found.append(f"data.shards: {error}")
    if manifest is not None:
        found += data_problems(recipe, manifest)
    if isinstance(recipe, DistillRecipe):
        found += teacher_problems(recipe, manifest)
    return found


def share_problems(groups: int, groups_per_micro_batch: int, world_size: int) -> list[str]:
    """Groups must be shared out evenly over ranks, and over micro-batches within a rank."""
    if groups % world_size:
        return [
            f"batch.global_batch_size: its {groups} relation group(s) cannot be shared evenly by "
            f"{world_size} ranks"
        ]
    if (groups // world_size) % groups_per_micro_batch:
        return [
            f"batch.groups_per_micro_batch: {groups_per_micro_batch} does not divide the "
            f"{groups // world_size} group(s) of a rank"
        ]
    return []


def data_problems(recipe: Run, manifest: Manifest) -> list[str]:
    """Enough samples, and positions enough for the longest."""
    found = []
    if manifest.samples < recipe.batch.global_batch_size:
        found.append(
            f"batch.global_batch_size: {recipe.batch.global_batch_size}, but "
            f"{recipe.data.shards} holds {manifest.samples} samples"
        )
    name, sizes = ("student", recipe.student) if isinstance(recipe, DistillRecipe) else (
        "encoder", recipe.encoder,
    )  # fmt: skip
    if sizes.max_position_embeddings < manifest.max_length:
        found.append(
            f"{name}.max_position_embeddings: {sizes.max_position_embeddings} is less than the "
            f"shards' max_length {manifest.max_length}"
        )
    return found


def teacher_problems(recipe: DistillRecipe, manifest: Manifest | None) -> list[str]:
    """The teacher is there, has the layers and widths asked for, and the shards' vocabulary."""
    from pretrain.teacher import read_config

    try:
        config = read_config(recipe.teacher.path)
        layers, hidden = int(config["num_hidden_layers"]), int(config["hidden_size"])
    except UserError as error:
        return [f"teacher.path: {error}"]
    except (KeyError, TypeError, ValueError):
        return [f"teacher.path: {recipe.teacher.path}/config.json names no sizes of an encoder"]
    found = []
    for field, layer in (
        ("teacher.layer", recipe.teacher.layer),
        *(("student.from_teacher_layers", n) for n in recipe.student.from_teacher_layers),
    ):
        if not 1 <= layer <= layers:
            found.append(f"{field}: {layer}; the teacher has layers 1 to {layers}")
    for name, size in (("teacher", hidden), ("student", recipe.student.hidden_size)):
        if size % recipe.relations.heads:
            found.append(
                f"relations.heads: {recipe.relations.heads} does not divide the {name}'s "
                f"hidden_size {size}"
            )
    if manifest is not None:
        found += vocabulary_problems(Path(recipe.teacher.path), config, manifest)
    return found


def vocabulary_problems(directory: Path, config: dict, manifest: Manifest) -> list[str]:
    """The shards must have been made with the teacher's vocabulary."""
    if (directory / "vocab.txt").exists():
        if vocab.sha256(vocab.read(directory / "vocab.txt")) != manifest.vocab_sha256:
            return [
                f"teacher.path: {directory}/vocab.txt is not the vocabulary that the shards were "
                "made with; build them with vocab.file set to it"
            ]
    elif config.get("vocab_size") != manifest.vocab_size:
        return [
            f"teacher.path: vocab_size {config.get('vocab_size')}, but the shards' vocabulary has "
            f"{manifest.vocab_size} entries"
        ]
    return []
