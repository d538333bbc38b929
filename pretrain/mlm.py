"""Pre-train by whole-word masking, to make a teacher where none can be had:
`python -m paddle.distributed.launch --nproc_per_node 2 pretrain/mlm.py --config ...`."""

from data_pipeline.base.errors import command
from pretrain import entry
from pretrain.recipe import MaskedLMRecipe


@command
def main(argv: list[str] | None = None) -> int:
    """Train the encoder of a recipe, from where it was left, and write it as a teacher."""
    return entry.main(MaskedLMRecipe, main.__doc__, train, is_finished, argv)


def train(recipe: MaskedLMRecipe) -> int:
    """Build the encoder, train it, and write it on rank 0."""
    from data_pipeline.shards.format import Manifest
    from pretrain.release.write import write_encoder
    from pretrain.training import parallel
    from pretrain.training.loop import fit

    world = parallel.start(recipe.optimizer.sharded)
    manifest = Manifest.read(recipe.data.shards)
    objective = build(recipe, manifest)
    code = fit(objective, recipe, manifest, world)
    if code == 0 and world.rank == 0:
        write_encoder(objective.encoder, recipe.model_dir, recipe.data.shards / "vocab.txt")
        print(f"{recipe.model_dir}: the encoder, as a teacher")
    parallel.barrier(world)  # a rank that ended would take the others with it
    return code


def build(recipe: MaskedLMRecipe, manifest):
    """The objective of a recipe, with the encoder's initial weights."""
    from pretrain.encoders.load import build_encoder
    from pretrain.encoders.student import encoder_config, seed_everything
    from pretrain.objectives.masked_lm import MaskedLM

    seed_everything(recipe.seed)
    encoder = build_encoder(encoder_config("BertModel", recipe.encoder, manifest))
    for parameter in encoder.pooler.parameters():
        parameter.stop_gradient = True  # the objective does not reach it
    return MaskedLM(encoder, manifest, recipe.masking)


def is_finished(recipe: MaskedLMRecipe) -> bool:
    """Whether there is nothing left to train or to write."""
    from pretrain.encoders.weights import WEIGHTS
    from pretrain.training.loop import is_finished

    return is_finished(recipe) and (recipe.model_dir / WEIGHTS).exists()


if __name__ == "__main__":
    entry.end(main())
