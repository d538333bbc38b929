"""This project's step, for benchmarks/distill_step.py."""

import time

import paddle

from benchmarks.encoder_sizes import GROUP, HEADS, encoder_fields
from benchmarks.step_batches import grouped
from data_pipeline.base.recipes import check
from data_pipeline.loading.order import World
from pretrain.encoders import linear
from pretrain.encoders import teacher_engine as engine
from pretrain.encoders.load import build_encoder
from pretrain.encoders.student import freeze_unreached
from pretrain.objectives.distill import Distillation
from pretrain.objectives.relations import relation_error, relation_loss, relation_weights
from pretrain.recipe import DistillRecipe
from pretrain.training import flops
from pretrain.training import optimizer as optimize
from pretrain.training.step import StepTimer, Trainer, train_step


def contender(sizes: dict, options, kind: str):
    """(a function of one step's batches, all steps); `kind` is the teacher's engine."""
    return OurStep(sizes, options, kind), grouped(options)


def encoder(architecture: str, layers: int, hidden: int, heads: int, act: str):
    """A random encoder with the vocabulary of the published models."""
    fields = encoder_fields(layers, hidden, heads, act)
    return build_encoder({"architectures": [architecture], **fields})


class OurStep:
    """`train_step` of the published recipe, at batches of one relation group."""

    def __init__(self, sizes: dict, options, kind: str):
        layers, hidden, heads = sizes["student"]
        self.sizes, self.kind = sizes, kind
        self.recipe = check(
            DistillRecipe,
            {
                "output_dir": "unused",
                "data": {"shards": str(options.shards)},
                "batch": {"global_batch_size": GROUP, "relation_group_size": GROUP},
                "teacher": {"path": "unused", "layer": sizes["teacher_layer"]},
                "student": {
                    "num_hidden_layers": layers,
                    "hidden_size": hidden,
                    "num_attention_heads": heads,
                    "layer": layers,
                },
                "relations": {"heads": HEADS},
            },
            "benchmark",
        )
        paddle.seed(0)
        self.teacher = encoder("RobertaModel", *sizes["teacher"], "gelu")
        student = encoder("PPMiniLMModel", *sizes["student"], "relu")
        freeze_unreached(student, layers, with_hidden=False)
        states = engine.open_engine(kind, self.teacher, sizes["teacher_layer"], False)
        objective = Distillation(student, states, layers, self.recipe.relations, GROUP)
        objective.train()
        linear.replace_linears(objective)
        adam = optimize.build_optimizer(objective, self.recipe.optimizer)
        self.trainer = Trainer(
            self.recipe, objective, objective, adam, adam._parameter_list, World()
        )
        self.timer, self.count = StepTimer(), 0
        self.cells = self.tokens = self.flops = 0
        self.shapes: list[tuple[int, int]] = []

    def __call__(self, batches) -> None:
        """One step; the first one is not counted."""
        if self.count == 1:
            self.timer, self.cells, self.tokens, self.flops = StepTimer(), 0, 0, 0
            self.shapes = []
        train_step(self.trainer, batches, self.count, 6e-4, 1.0, self.timer)
        self.count += 1
        self.last = batches[0]
        self.shapes.append(self.last.input_ids.shape)
        self.cells += self.last.input_ids.size
        self.tokens += int(self.last.attention_mask.sum())
        self.flops += flops.distillation(
            flops.Shape(self.sizes["teacher"][1], 4 * self.sizes["teacher"][1]),
            self.sizes["teacher_layer"],
            flops.Shape(self.sizes["student"][1], 4 * self.sizes["student"][1]),
            self.sizes["student"][0],
            self.last.input_ids.size,
            self.last.input_ids.shape[1],
        )

    def more(self, seconds: float) -> dict[str, float]:
        """What else is measured in the same process."""
        ceiling = flops.matmul_ceiling(self.sizes["teacher"][1])
        samples, tokens = self.relation_seconds(beta=1.0), self.relation_seconds(beta=0.0)
        found = {
            "ceiling_gflop_s": ceiling / 1e9,
            "ceiling_share": self.flops / seconds / ceiling,
            "relation_share": samples / seconds,
            # Of a step that learns the relation between tokens instead.
            "token_relation_share": tokens / (seconds - samples + tokens),
            **{f"{k}_share": v / seconds for k, v in self.timer.seconds.items()},
        }
        if self.kind != "dynamic":
            found["relation_error"] = self.engine_error()
        return found

    def relation_seconds(self, beta: float) -> float:
        """Relation losses and their gradients over tensors of the timed batches' shapes, forward
        and backward: what they hold does not matter to the time."""
        times = []
        for shape in [self.shapes[0], *self.shapes]:  # the first one to warm up
            student, teacher = (
                [paddle.randn([*shape, self.sizes[who][1]]) for _ in "qkv"]
                for who in ("student", "teacher")
            )
            for x in student:
                x.stop_gradient = False
            mask = paddle.ones(shape, "int64")
            began = time.perf_counter()
            losses = [
                relation_loss(s, t, mask, HEADS, GROUP, relation_weights(0.0, beta))
                for s, t in zip(student, teacher, strict=True)
            ]
            sum(losses).backward()
            times.append(time.perf_counter() - began)
        return sum(times[1:])

    def engine_error(self) -> float:
        """KL of the engine's relations from the exact ones, on the last batch."""
        layer = self.sizes["teacher_layer"]
        ids, mask = map(paddle.to_tensor, (self.last.input_ids, self.last.attention_mask))
        exact = engine.open_engine("dynamic", self.teacher, layer, False)(ids, mask)
        found = self.trainer.objective.teacher(ids, mask)
        return relation_error(exact, found, mask, HEADS, GROUP, relation_weights(0.0, 1.0))
