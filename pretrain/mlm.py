"""Pre-train by whole-word masking, to make a teacher where there is none to download:
`python -m paddle.distributed.launch --nproc_per_node 2 pretrain/mlm.py --config ...`."""

from functools import partial

from data_pipeline.base.errors import command
from data_pipeline.loading.order import World
from pretrain import entry
from pretrain.recipe import MaskedLMRecipe


@command
def main(argv: list[str] | None = None) -> int:
    """Train the encoder of a recipe, from its newest checkpoint where there is one, and write it as
    a teacher."""
    return entry.main(MaskedLMRecipe, main.__doc__, build, argv, write_teacher)


def build(recipe: MaskedLMRecipe, manifest, world: World | None = None, ranks=None):
    """The objective of a recipe, with the encoder's initial weights. `ranks` are not needed: tokens
    of a sample are not related to those of others."""
    from pretrain.encoders.initial_weights import initialise
    from pretrain.encoders.load import build_encoder
    from pretrain.encoders.student import encoder_config, seed_everything
    from pretrain.objectives.initial_head import set_unigram_head
    from pretrain.objectives.masked_lm import MaskedLM
    from pretrain.training import flops

    seed_everything(recipe.seed)
    encoder = build_encoder(encoder_config("BertModel", recipe.encoder, manifest))
    for parameter in encoder.pooler.parameters():
        parameter.stop_gradient = True  # the objective does not reach it
    cost = partial(
        flops.masked_lm,
        flops.Shape.of(encoder.config),
        recipe.encoder.num_hidden_layers,
        manifest.vocab_size,
        recipe.masking.share,
    )
    objective = MaskedLM(encoder, manifest, recipe.masking, recipe.compute, cost)
    special_ids = manifest.special_ids.values()
    initialise(encoder, recipe.initial_weights, recipe.data.shards, special_ids, recipe.seed)
    if recipe.initial_weights.head == "unigram":
        set_unigram_head(objective, recipe.data.shards)
    return objective


def write_teacher(objective, recipe: MaskedLMRecipe) -> None:
    """Write the trained encoder to `recipe.model_dir`."""
    from data_pipeline.text import tokenizer
    from pretrain.release.write import write_encoder

    tokens, lower_case = tokenizer.read(recipe.output_dir)
    write_encoder(objective.encoder, recipe.model_dir, tokens, lower_case)
    print(f"{recipe.model_dir}: the encoder, as a teacher")


if __name__ == "__main__":
    entry.end(main())
