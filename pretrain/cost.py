"""What a recipe costs, counted from its sizes: operations, memory, bytes on disk. Nothing is built
or measured, and Paddle is not imported.

Sources: operations as in `training.flops`; activations after Korthikanti et al.,
https://arxiv.org/abs/2205.05198, equation 1 (34 s b h + 5 a s^2 b bytes a layer in 16 bits), with
the bytes of an element as a variable.
"""

from dataclasses import asdict, dataclass

from data_pipeline.base.errors import UserError
from data_pipeline.shards.format import Manifest
from pretrain.encoders.config import DEFAULT_SIZES, locate, read_config
from pretrain.recipe import DistillRecipe, MaskedLMRecipe
from pretrain.training import flops
from pretrain.training.settings import TrainingRecipe

# RoBERTa-wwm-ext-large, the teacher of the published recipe; taken where none is on the disk.
LARGE = {
    "num_hidden_layers": 24,
    "hidden_size": 1024,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "max_position_embeddings": 512,
    "vocab_size": 21128,
}
PUBLISHED_LENGTH, PUBLISHED_VOCABULARY = 128, 21128  # where there are no shards yet
FLOAT32, MOMENTS = 4, 8  # bytes a weight
TABLES, TABLE_BYTES = 5, 2**26 * FLOAT32  # of relations on a GPU at a time: objectives.divergence
# Each element of a relation is read or written about this often, by student and teacher together.
TABLE_PASSES = 32
LOG_BYTES_PER_RECORD = 4_000  # metrics.jsonl and VisualDL together
CHECKPOINT_OVERHEAD = 1.01  # headers, state.json


@dataclass(frozen=True)
class Model:
    """Sizes of one encoder."""

    layers: int
    hidden: int
    heads: int
    intermediate: int
    positions: int
    vocabulary: int

    @classmethod
    def of(cls, sizes: dict, vocabulary: int | None = None) -> "Model":
        """From the values of a config.json."""
        return cls(
            sizes["num_hidden_layers"],
            sizes["hidden_size"],
            sizes["num_attention_heads"],
            sizes["intermediate_size"],
            sizes["max_position_embeddings"],
            vocabulary or sizes["vocab_size"],
        )

    @property
    def parameters(self) -> int:
        """Weights of embeddings (two token types), layers and pooler."""
        h, i = self.hidden, self.intermediate
        embeddings = (self.vocabulary + self.positions + 2) * h + 2 * h
        layer = 4 * (h * h + h) + (h * i + i) + (i * h + h) + 4 * h
        return embeddings + self.layers * layer + h * h + h


@dataclass(frozen=True)
class Cost:
    """Of a run with a number of ranks. Bytes are of one rank unless said otherwise."""

    parameters: int
    teacher_parameters: int
    tokens_per_step: int
    """Over all ranks, padded."""
    samples_per_step: int
    steps: int
    length: int
    flops_per_step: int
    """Over all ranks."""
    weights_bytes: int
    """Of the model that is trained, its gradients and its optimizer's moments."""
    teacher_bytes: int
    activation_bytes: int
    relation_bytes: int
    relation_traffic_bytes: int
    """Read and written in a step for the tables of relations, over all ranks."""
    exchange_bytes: int
    """Of Q, K and V, sent by one rank in a step where relation groups span ranks; otherwise 0."""
    gradient_bytes: int
    """What the ranks exchange in a step."""
    checkpoint_bytes: int
    disk_bytes: int
    """The whole run, while one checkpoint is being written."""
    assumptions: tuple[str, ...]

    def as_values(self) -> dict:
        """Plain values, for JSON."""
        return asdict(self)


def cost_of(recipe: TrainingRecipe, world_size: int) -> Cost:
    """What each of `world_size` ranks computes and holds, and what the run writes."""
    assumptions: list[str] = []
    length, vocabulary = _length_and_vocabulary(recipe, assumptions)
    batch = recipe.batch
    tokens = batch.global_batch_size * length
    element = FLOAT32 if recipe.precision.dtype == "float32" else 2
    share = max(1, batch.global_batch_size // world_size)
    micro = min(share, batch.relation_group_size * batch.groups_per_micro_batch)
    if isinstance(recipe, DistillRecipe):
        student = Model.of(recipe.student.model_dump(), vocabulary)
        teacher = _teacher(recipe, assumptions)
        operations = flops.distillation(
            _shape(teacher), recipe.teacher.layer, _shape(student), recipe.student.layer,
            tokens, length,
        )  # fmt: skip
        # The frozen teacher keeps one layer's activations at a time, and its last Q, K and V.
        teacher_bytes = teacher.parameters * element
        teacher_activations = layer_bytes(teacher, micro, length, element) + (
            3 * micro * length * teacher.hidden * FLOAT32
        )
        states = micro * length * (teacher.hidden + 2 * student.hidden) * FLOAT32
        relation_bytes = 3 * states + TABLES * TABLE_BYTES
        traffic = relation_elements(recipe, length) * batch.global_batch_size * TABLE_PASSES
        spanning = batch.relation_group_size > share
        exchanged = 6 * share * length * (teacher.hidden + student.hidden) * FLOAT32 * spanning
        teacher_parameters = teacher.parameters
    elif isinstance(recipe, MaskedLMRecipe):
        student = Model.of(recipe.encoder.model_dump(), vocabulary)
        operations = flops.masked_lm(
            _shape(student), student.layers, vocabulary, recipe.masking.share, tokens, length
        )
        teacher_bytes = teacher_activations = teacher_parameters = traffic = exchanged = 0
        masked = round(micro * length * recipe.masking.share)
        relation_bytes = 3 * masked * vocabulary * FLOAT32  # logits, their softmax and gradient
    else:
        raise TypeError(type(recipe))
    moments = MOMENTS / (world_size if recipe.optimizer.sharded else 1)
    weights_bytes = round(student.parameters * (2 * FLOAT32 + moments))
    activations = student.layers * layer_bytes(student, micro, length, element)
    checkpoint = round(student.parameters * (FLOAT32 + MOMENTS) * CHECKPOINT_OVERHEAD)
    return Cost(
        parameters=student.parameters,
        teacher_parameters=teacher_parameters,
        tokens_per_step=tokens,
        samples_per_step=batch.global_batch_size,
        steps=recipe.optimizer.total_steps,
        length=length,
        flops_per_step=operations,
        weights_bytes=weights_bytes,
        teacher_bytes=teacher_bytes,
        activation_bytes=activations + teacher_activations,
        relation_bytes=relation_bytes,
        relation_traffic_bytes=traffic * FLOAT32,
        exchange_bytes=exchanged,
        gradient_bytes=student.parameters * FLOAT32,
        checkpoint_bytes=checkpoint,
        disk_bytes=run_bytes(recipe, checkpoint, student.parameters),
        assumptions=tuple(assumptions),
    )


def run_bytes(recipe: TrainingRecipe, checkpoint_bytes: int, parameters: int) -> int:
    """The most that a run has on the disk: what the recipe retains, one more while it is being
    written, the records, and for masked-language-model pre-training the finished encoder."""
    saving, steps = recipe.checkpoint, recipe.optimizer.total_steps
    retained = min(saving.keep_last, -(-steps // saving.every_steps))
    if saving.keep_every:
        retained += steps // saving.keep_every
    records = steps // recipe.monitor.log_every_steps
    products = parameters * FLOAT32 if recipe.products() else 0
    return (retained + 1) * checkpoint_bytes + records * LOG_BYTES_PER_RECORD + products


def relation_elements(recipe: DistillRecipe, length: int) -> int:
    """Elements of the tables of Q, K and V for one sample: [R, L, L] of the relation between
    tokens, [R, L, G] of that between samples, [L, R, R] of that between heads."""
    relations, heads = recipe.relations, recipe.relations.heads
    elements = 0
    if relations.alpha + relations.beta < 1:
        elements += heads * length * length
    if relations.beta > 0:
        elements += heads * length * recipe.batch.relation_group_size
    if relations.alpha > 0:
        elements += length * heads * heads
    return (4 if relations.hidden > 0 else 3) * elements


def layer_bytes(model: Model, samples: int, length: int, element: int) -> int:
    """Activations that one layer keeps for its backward pass, with `element` bytes each, dropout
    masks (one byte) and two float32 inputs of layer norms."""
    width = samples * length * model.hidden
    scores = model.heads * samples * length**2
    inner = 2 * samples * length * model.intermediate
    return width * (8 * element + 2) + inner * element + scores * (2 * element + 1)


def _shape(model: Model) -> flops.Shape:
    return flops.Shape(model.hidden, model.intermediate)


def _length_and_vocabulary(recipe: TrainingRecipe, assumptions: list[str]) -> tuple[int, int]:
    """Mean padded length of a batch, and words of the vocabulary, from the shards' manifest."""
    try:
        manifest = Manifest.read(recipe.data.shards)
    except UserError:
        assumptions.append(
            f"{recipe.data.shards} is not there: all samples have {PUBLISHED_LENGTH} tokens, the "
            f"vocabulary has {PUBLISHED_VOCABULARY} words"
        )
        return PUBLISHED_LENGTH, PUBLISHED_VOCABULARY
    mean = max(1, round(manifest.tokens / max(1, manifest.samples)))
    assumptions.append(
        f"samples have {mean} tokens, the mean of {recipe.data.shards}; bucketing pads a few more"
    )
    return mean, manifest.vocab_size


def _teacher(recipe: DistillRecipe, assumptions: list[str]) -> Model:
    try:
        return Model.of(
            {"vocab_size": 0} | DEFAULT_SIZES | read_config(locate(recipe.teacher.path))
        )
    except UserError:
        assumptions.append(
            f"{recipe.teacher.path} is not there: the teacher has the sizes of "
            "RoBERTa-wwm-ext-large (24 layers of 1024)"
        )
        return Model.of(LARGE)
