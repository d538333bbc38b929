"""Distill:
`python -m paddle.distributed.launch --nproc_per_node 2 pretrain/run.py --config ...`."""

from functools import partial

from data_pipeline.base.errors import command
from data_pipeline.loading.order import World
from pretrain import entry
from pretrain.recipe import DistillRecipe


@command
def main(argv: list[str] | None = None) -> int:
    """Train the student of a recipe, from its newest checkpoint where there is one."""
    return entry.main(DistillRecipe, main.__doc__, build, argv)


def build(recipe: DistillRecipe, manifest, world: World | None = None, ranks=None):
    """The objective of a recipe, with the student's initial weights.

    ranks: the `RankGroup` of this rank where several share a relation group.
    """
    from pretrain.encoders import weights
    from pretrain.encoders.initial_weights import initialise
    from pretrain.encoders.load import load_encoder
    from pretrain.encoders.student import build_student, freeze_unreached, seed_everything
    from pretrain.encoders.teacher_engine import APPROXIMATE, open_engine
    from pretrain.objectives.distill import Distillation
    from pretrain.training import flops
    from pretrain.training.precision import effective_dtype

    seed_everything(recipe.seed)
    teacher = load_encoder(recipe.teacher.path, recipe.teacher.weights)
    is_first = world is None or world.rank == 0
    identity = {"teacher": weights.digest(teacher.state_dict())} if is_first else {}
    seed_everything(recipe.seed)  # the student's weights do not depend on the teacher's size
    with_hidden = recipe.relations.hidden > 0
    student = build_student(recipe.student, manifest, teacher, with_hidden)
    special_ids = manifest.special_ids.values()
    initialise(student, recipe.initial_weights, recipe.data.shards, special_ids, recipe.seed)
    freeze_unreached(student, recipe.student.layer, with_hidden)
    dtype = effective_dtype(recipe.precision)
    engine = open_engine(
        recipe.teacher.engine,
        teacher,
        recipe.teacher.layer,
        with_hidden,
        dtype,
        recipe.compute.attention,
    )
    shapes = [flops.Shape.of(encoder.config) for encoder in (teacher, student)]
    layers = recipe.teacher.layer, recipe.student.layer
    constants = {}
    if is_first:
        print(
            f"relations: {recipe.relations.described()}; teacher layer {layers[0]}, "
            f"student layer {layers[1]}",
            flush=True,
        )
    if recipe.teacher.engine in APPROXIMATE and is_first:
        error = engine_error(recipe, teacher, engine)
        constants["teacher/engine_relation_error"] = error
        name = recipe.teacher.engine
        print(f"teacher.engine {name}: KL of its relations from the exact ones {error:.2g}")
    return Distillation(
        student,
        engine,
        recipe.student.layer,
        recipe.relations,
        recipe.batch.relation_group_size,
        recipe.compute,
        cost=partial(flops.distillation, shapes[0], layers[0], shapes[1], layers[1]),
        constants=constants,
        identity=identity,
        ranks=ranks,
    )


def engine_error(recipe: DistillRecipe, teacher, engine) -> float:
    """`relation_error` of an engine, on the first relation group of the shards."""
    import paddle

    from data_pipeline.loading.loader import Loader
    from data_pipeline.loading.order import OrderSettings
    from pretrain.encoders.teacher_engine import open_engine
    from pretrain.objectives.relations import relation_error

    size, relations = recipe.batch.relation_group_size, recipe.relations
    settings = OrderSettings(relation_group_size=size, global_batch_size=size)
    batch = next(iter(Loader(recipe.data.shards, settings, workers=0)))[0]
    inputs = [paddle.to_tensor(array) for array in (batch.input_ids, batch.attention_mask)]
    exact_engine = open_engine("dynamic", teacher, recipe.teacher.layer, relations.hidden > 0)
    exact, approximate = exact_engine(*inputs), engine(*inputs)
    return relation_error(
        exact, approximate, batch.attention_mask, relations.heads, size, relations.weights()
    )


if __name__ == "__main__":
    entry.end(main())
