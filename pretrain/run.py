"""Distil: `python -m paddle.distributed.launch --nproc_per_node 2 pretrain/run.py --config ...`."""

import sys

from data_pipeline.base.errors import command
from pretrain import entry
from pretrain.recipe import DistillRecipe


@command
def main(argv: list[str] | None = None) -> int:
    """Train the student of a recipe, from where it was left."""
    return entry.main(DistillRecipe, main.__doc__, train, is_finished, argv)


def train(recipe: DistillRecipe) -> int:
    """Build teacher and student, then train."""
    from data_pipeline.shards import Manifest
    from pretrain import parallel
    from pretrain.train import fit

    world = parallel.start()
    manifest = Manifest.read(recipe.data.shards)
    return fit(build(recipe, manifest), recipe, manifest, world)


def build(recipe: DistillRecipe, manifest):
    """The objective of a recipe, with the student's initial weights."""
    from pretrain.distill import Distillation
    from pretrain.student import build_student, freeze_unreached, seed_everything
    from pretrain.teacher import load_encoder

    seed_everything(recipe.seed)
    teacher = load_encoder(recipe.teacher.path)
    seed_everything(recipe.seed)  # the student's weights do not depend on the teacher's size
    student = build_student(recipe.student, manifest, teacher)
    freeze_unreached(student, recipe.student.layer)
    return Distillation(
        student, teacher, recipe.student.layer, recipe.teacher.layer, recipe.relations
    )


def is_finished(recipe: DistillRecipe) -> bool:
    """Whether there is nothing left to train."""
    from pretrain.train import is_finished

    return is_finished(recipe)


if __name__ == "__main__":
    sys.exit(main())
