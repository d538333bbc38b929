"""Distil: `python -m paddle.distributed.launch --nproc_per_node 2 pretrain/run.py --config ...`."""

from functools import partial

from data_pipeline.base.errors import command
from pretrain import entry
from pretrain.recipe import DistillRecipe


@command
def main(argv: list[str] | None = None) -> int:
    """Train the student of a recipe, from where it was left."""
    return entry.main(DistillRecipe, main.__doc__, train, is_finished, argv)


def train(recipe: DistillRecipe) -> int:
    """Build teacher and student, then train."""
    from data_pipeline.shards.format import Manifest
    from pretrain.training import parallel
    from pretrain.training.loop import fit

    world = parallel.start(recipe.optimizer.sharded)
    manifest = Manifest.read(recipe.data.shards)
    objective = build(recipe, manifest)
    constants = {}
    if recipe.teacher.engine == "onnx_int8" and world.rank == 0:
        error = constants["teacher/engine_relation_error"] = engine_error(recipe)
        print(f"teacher.engine onnx_int8: its relations are {error:.2g} from the exact ones (KL)")
    code = fit(objective, recipe, manifest, world, constants)
    parallel.barrier(world)  # a rank that ended would take the others with it
    return code


def build(recipe: DistillRecipe, manifest):
    """The objective of a recipe, with the student's initial weights."""
    from pretrain.encoders.load import load_encoder
    from pretrain.encoders.student import build_student, freeze_unreached, seed_everything
    from pretrain.encoders.teacher_engine import open_engine
    from pretrain.objectives.distill import Distillation
    from pretrain.training import flops

    seed_everything(recipe.seed)
    teacher = load_encoder(recipe.teacher.path, recipe.teacher.weights)
    seed_everything(recipe.seed)  # the student's weights do not depend on the teacher's size
    with_hidden = recipe.relations.hidden > 0
    student = build_student(recipe.student, manifest, teacher, with_hidden)
    freeze_unreached(student, recipe.student.layer, with_hidden)
    engine = open_engine(recipe.teacher.engine, teacher, recipe.teacher.layer, with_hidden)
    shapes = [flops.Shape.of(encoder.config) for encoder in (teacher, student)]
    layers = recipe.teacher.layer, recipe.student.layer
    cost = partial(flops.distillation, shapes[0], layers[0], shapes[1], layers[1])
    return Distillation(student, engine, recipe.student.layer, recipe.relations, cost)


def engine_error(recipe: DistillRecipe) -> float:
    """`engine.relation_error` of the recipe's engine, on the first relation group of the shards."""
    from data_pipeline.loading.loader import Loader
    from data_pipeline.loading.order import OrderSettings
    from pretrain.encoders.load import load_encoder
    from pretrain.encoders.teacher_engine import open_engine, relation_error

    size = recipe.batch.relation_group_size
    settings = OrderSettings(relation_group_size=size, global_batch_size=size)
    batch = next(iter(Loader(recipe.data.shards, settings, workers=0)))[0]
    teacher = load_encoder(recipe.teacher.path, recipe.teacher.weights)
    exact, found = (
        open_engine(kind, teacher, recipe.teacher.layer, recipe.relations.hidden > 0)(
            batch.input_ids, batch.attention_mask
        )
        for kind in ("dynamic", recipe.teacher.engine)
    )
    relations = recipe.relations
    return relation_error(
        exact, found, batch.attention_mask, relations.heads, size, relations.alpha, relations.beta
    )


def is_finished(recipe: DistillRecipe) -> bool:
    """Whether there is nothing left to train."""
    from pretrain.training.loop import is_finished

    return is_finished(recipe)


if __name__ == "__main__":
    entry.end(main())
