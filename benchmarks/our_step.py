"""This project's step, for benchmarks/distill_step.py."""

import time
from pathlib import Path

import paddle

from benchmarks.encoder_sizes import GROUP, HEADS, SIZES, UPDATE, encoder_fields
from data_pipeline.base.recipes import check
from data_pipeline.loading.loader import Batch
from pretrain.encoders import cpu_layers, device
from pretrain.encoders.load import build_encoder, load_encoder
from pretrain.encoders.student import freeze_unreached
from pretrain.encoders.teacher_engine import open_engine
from pretrain.objectives.distill import Distillation
from pretrain.objectives.relations import relation_error, relation_loss, relation_weights
from pretrain.recipe import DistillRecipe
from pretrain.training import flops, parallel, precision
from pretrain.training import optimizer as optimize
from pretrain.training.step import StepTimer, Trainer, train_step

PACKAGED = Path(__file__).parents[1] / "assets" / "teacher"  # trained: its relations are real


def contender(options, engine: str, dtype: str = "float32"):
    """A function of the batches of one update."""
    paddle.set_device(options.device)
    return OurStep(SIZES[options.sizes], options.shards, engine, dtype)


def encoder(architecture: str, layers: int, hidden: int, heads: int, act: str):
    """A random encoder with the vocabulary of the published models."""
    fields = encoder_fields(layers, hidden, heads, act)
    return build_encoder({"architectures": [architecture], **fields})


class OurStep:
    """`train_step` of the published recipe, in relation groups of GROUP."""

    def __init__(self, sizes: dict, shards: Path, engine: str, dtype: str):
        layers, hidden, heads = sizes["student"]
        self.sizes, self.engine = sizes, engine
        self.recipe = check(
            DistillRecipe,
            {
                "output_dir": "unused",
                "data": {"shards": str(shards)},
                "batch": {"global_batch_size": UPDATE, "relation_group_size": GROUP},
                "teacher": {"path": "unused", "layer": sizes["teacher_layer"]},
                "student": {
                    "num_hidden_layers": layers,
                    "hidden_size": hidden,
                    "num_attention_heads": heads,
                    "layer": layers,
                },
                "relations": {"heads": HEADS},
                "precision": {"dtype": dtype},
            },
            "benchmark",
        )
        precision.configure(self.recipe.precision)
        paddle.seed(0)
        teacher = encoder("RobertaModel", *sizes["teacher"], "gelu")
        student = encoder("PPMiniLMModel", *sizes["student"], "relu")
        freeze_unreached(student, layers, with_hidden=False)
        states = open_engine(engine, teacher, sizes["teacher_layer"], False, dtype)
        objective = Distillation(student, states, layers, self.recipe.relations, GROUP)
        objective.train()
        cpu_layers.replace_layers(objective)
        adam = optimize.build_optimizer(objective, self.recipe.optimizer)
        self.world = parallel.join()
        model, optimizer = parallel.wrap(objective, adam, self.world)
        self.trainer = Trainer(
            self.recipe, objective, model, optimizer, adam._parameter_list, self.world
        )
        self.timer, self.count = StepTimer(), 0
        self.last: Batch | None = None
        self.timed: list[Batch] = []

    def __call__(self, batches: list[Batch]) -> None:
        """One update; the first one warms up and is not counted."""
        if self.count == 1:
            self.timer, self.timed = StepTimer(), []
        train_step(self.trainer, batches, self.count, 6e-4, 1.0, self.timer)
        self.count += 1
        self.timed += batches

    def wait(self) -> None:
        """Until a GPU has computed everything."""
        device.synchronise()

    def wait_for_ranks(self) -> None:
        """Until all ranks have come here."""
        parallel.barrier(self.world)

    def peak_gpu_mb(self) -> float:
        """The most memory that tensors have taken on the GPU."""
        return device.peak_gpu_memory_mb()

    def more(self, seconds: float) -> dict[str, float]:
        """What else is measured in the same process."""
        dtype = precision.effective_dtype(self.recipe.precision)
        ceiling = flops.matmul_ceiling(self.sizes["teacher"][1], dtype)
        samples, tokens = self.relation_seconds(beta=1.0), self.relation_seconds(beta=0.0)
        measured = {
            "ceiling_gflop_s": ceiling / 1e9,
            "ceiling_share": self.operations() / seconds / ceiling,
            "relation_share": samples / seconds,
            # Of a step that learns the relation between tokens instead.
            "token_relation_share": tokens / (seconds - samples + tokens),
            **{f"{k}_share": v / seconds for k, v in self.timer.seconds.items()},
        }
        if self.engine != "dynamic":
            measured["relation_error"] = self.engine_error()
        return measured

    def operations(self) -> int:
        """Floating-point operations of the timed batches."""
        (_, teacher, _), (layers, student, _) = self.sizes["teacher"], self.sizes["student"]
        return sum(
            flops.distillation(
                flops.Shape(teacher, 4 * teacher),
                self.sizes["teacher_layer"],
                flops.Shape(student, 4 * student),
                layers,
                batch.input_ids.size,
                batch.input_ids.shape[1],
            )
            for batch in self.timed
        )

    def relation_seconds(self, beta: float) -> float:
        """Relation losses and their gradients over tensors of the timed batches' shapes, forward
        and backward: what they hold does not matter to the time."""
        times = []
        shapes = [batch.input_ids.shape for batch in self.timed]
        for shape in [shapes[0], *shapes]:  # the first one to warm up
            student, teacher = (
                [paddle.randn([*shape, self.sizes[who][1]]) for _ in "qkv"]
                for who in ("student", "teacher")
            )
            for x in student:
                x.stop_gradient = False
            mask = paddle.ones(shape, "int64")
            device.synchronise()
            began = time.perf_counter()
            losses = [
                relation_loss(s, t, mask, HEADS, GROUP, relation_weights(0.0, beta))
                for s, t in zip(student, teacher, strict=True)
            ]
            sum(losses).backward()
            device.synchronise()
            times.append(time.perf_counter() - began)
        return sum(times[1:])

    def engine_error(self) -> float:
        """KL of the engine's relations from the exact ones, of the packaged teacher's last layer
        but one on the longest of the timed batches; its vocabulary must be that of the shards."""
        batch = max(self.timed, key=lambda batch: batch.input_ids.size)
        ids, mask = map(paddle.to_tensor, (batch.input_ids, batch.attention_mask))
        teacher = load_encoder(PACKAGED)
        layer = teacher.config.num_hidden_layers - 1
        exact, approximate = (
            open_engine(engine, teacher, layer, False)(ids, mask)
            for engine in ("dynamic", self.engine)
        )
        heads = teacher.config.num_attention_heads
        return relation_error(exact, approximate, mask, heads, GROUP, relation_weights(0.0, 1.0))
