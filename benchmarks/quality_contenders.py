"""The contenders of quality.py, and how the encoder of each is trained.

All students have one shape, see the same samples in the same order, and take the same number of
steps. Every run is an ordinary run of `pretrain` in its own directory, so a killed one continues
from its newest checkpoint.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data_pipeline.base.errors import UserError
from data_pipeline.base.files import write_json
from data_pipeline.base.recipes import check
from pretrain.encoders.config import read_config


@dataclass(frozen=True)
class Contender:
    """A way to an encoder."""

    about: str
    kind: str
    """An entry of TRAINERS."""
    changes: dict = field(default_factory=dict)
    """Of the distillation recipe, by dotted name."""
    on_best: bool = False
    """Whether the relations are those of the best of RELATIONS."""
    start: str = "corpus"
    """The student before its first step: an entry of STARTS."""


RELATIONS = ("token", "sample", "mixture")  # the best of them on dev is taken further
CONTENDERS = {
    "teacher": Contender("the teacher itself", "teacher"),
    "untrained": Contender("never pre-trained", "untrained", start="drawn"),
    "start": Contender("never pre-trained, started from the corpus", "untrained"),
    "layers": Contender("layers of the teacher, not trained on", "untrained", start="layers"),
    "masked_lm": Contender("masked language model alone", "masked_lm"),
    "token": Contender("token-token relations", "distill", {"relations.beta": 0.0}),
    "sample": Contender("sample-sample relations (published)", "distill", {"relations.beta": 1.0}),
    "mixture": Contender("half token, half sample", "distill", {"relations.beta": 0.5}),
    "hidden": Contender("best, with relation H", "distill", {"relations.hidden": 1.0}, True),
    "int8": Contender("best, INT8 teacher", "distill", {"teacher.engine": "onnx_int8"}, True),
    # A fifth of the rate of the others: on dev, theirs lost what the layers knew.
    "copied": Contender(
        "best, from the teacher's layers",
        "distill",
        {"optimizer.learning_rate": 2e-4},
        True,
        "layers",
    ),
}
DISTILLED = tuple(name for name, contender in CONTENDERS.items() if contender.kind == "distill")


@dataclass(frozen=True)
class Plan:
    """What the trainings of all contenders share."""

    work: Path
    teacher: Path
    shards: Path
    steps: int
    batch: int
    group: int
    learning_rate: float
    warmup_share: float
    teacher_layer: int
    heads: int

    @property
    def student(self) -> dict:
        """The student's shape: the teacher's, with half of its layers and ReLU."""
        teacher = read_config(self.teacher)
        return {
            "num_hidden_layers": max(1, teacher["num_hidden_layers"] // 2),
            "hidden_size": teacher["hidden_size"],
            "num_attention_heads": teacher["num_attention_heads"],
            "intermediate_size": teacher["intermediate_size"],
            "max_position_embeddings": teacher["max_position_embeddings"],
            "hidden_act": "relu",
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        }


def copied_layers(plan: Plan) -> dict:
    """Layers spread from the first to the one that is learned, and the teacher's activation."""
    count, last = plan.student["num_hidden_layers"], plan.teacher_layer
    layers = np.linspace(1, last, count) if count > 1 else [last]
    return {
        "from_teacher_layers": [round(layer) for layer in layers],
        "hidden_act": read_config(plan.teacher)["hidden_act"],
    }


FROM_CORPUS = {"words": "cooccurrence", "local_attention": True, "neighbours": True}
# What a student's weights are before its first step: changes of a recipe's sections.
STARTS = {
    "drawn": lambda plan: {},
    "corpus": lambda plan: {"initial_weights": FROM_CORPUS},
    "layers": lambda plan: {"student": copied_layers(plan)},
}


def relation_heads(teacher: Path) -> int:
    """R: as many relation heads as leave each 16 numbers, the ratio of MiniLMv2's recipes."""
    width = read_config(teacher)["hidden_size"]
    return next(heads for heads in range(max(1, width // 16), 0, -1) if width % heads == 0)


def encoder_of(name: str, seed: int, plan: Plan, best: str | None = None) -> Path:
    """The encoder directory of a contender, trained now if it was not before.

    best: the relations that contenders `on_best` use. Seconds are written next to the results.
    """
    contender = CONTENDERS[name]
    directory = plan.work / "encoders" / f"{name}-{seed}"
    return TRAINERS[contender.kind](name, seed, plan, best, directory)


def distill_values(name: str, seed: int, plan: Plan, best: str | None) -> dict:
    """The distillation recipe of a contender."""
    values = {
        **shared_values(name, seed, plan),
        "teacher": {"path": str(plan.teacher), "layer": plan.teacher_layer, "engine": "onnx"},
        "student": {**plan.student, "layer": plan.student["num_hidden_layers"]},
        "relations": {"heads": plan.heads},
    }
    contender = CONTENDERS[name]
    for section, settings in STARTS[contender.start](plan).items():
        values[section] = values.get(section, {}) | settings
    changes = dict(contender.changes)
    if contender.on_best:
        changes = {**CONTENDERS[best].changes, **changes}
    for dotted, value in changes.items():
        section, key = dotted.split(".")
        values[section][key] = value
    return values


def shared_values(name: str, seed: int, plan: Plan) -> dict:
    """What the recipes of all runs have in common."""
    return {
        "output_dir": str(plan.work / "runs" / f"{name}-{seed}"),
        "seed": seed,
        "data": {"shards": str(plan.shards), "workers": 1},
        "batch": {"global_batch_size": plan.batch, "relation_group_size": plan.group},
        "optimizer": {
            "learning_rate": plan.learning_rate,
            "warmup_steps": max(1, round(plan.warmup_share * plan.steps)),
            "total_steps": plan.steps,
        },
        "checkpoint": {"every_steps": max(1, min(500, plan.steps // 4)), "keep_last": 1},
        "monitor": {"log_every_steps": max(1, min(20, plan.steps // 2))},
    }


def teacher_itself(name: str, seed: int, plan: Plan, best: str | None, directory: Path) -> Path:
    """Nothing to train."""
    return plan.teacher


def untrained(name: str, seed: int, plan: Plan, best: str | None, directory: Path) -> Path:
    """The student before its first step."""
    from data_pipeline.text import tokenizer
    from pretrain.recipe import DistillRecipe
    from pretrain.release.write import initial_student, write_encoder

    if not (directory / "model.safetensors").exists():
        recipe = check(DistillRecipe, distill_values(name, seed, plan, best), name)
        tokens, lower_case = tokenizer.read(plan.teacher)
        write_encoder(initial_student(recipe, tokens, True), directory, tokens, lower_case)
    return directory


def masked_lm(name: str, seed: int, plan: Plan, best: str | None, directory: Path) -> Path:
    """The same student pre-trained by whole-word masking on the same samples."""
    from pretrain import mlm
    from pretrain.recipe import MaskedLMRecipe

    values = {**shared_values(name, seed, plan), "encoder": plan.student, "masking": {}}
    values |= {"model_dir": str(directory), "initial_weights": FROM_CORPUS}
    train(check(MaskedLMRecipe, values, name), mlm.build, mlm.write_teacher)
    return directory


def distill(name: str, seed: int, plan: Plan, best: str | None, directory: Path) -> Path:
    """A student that learns the teacher's relations."""
    from pretrain import run
    from pretrain.recipe import DistillRecipe
    from pretrain.release.write import release

    recipe = check(DistillRecipe, distill_values(name, seed, plan, best), name)
    train(recipe, run.build)
    if not (directory / "release.json").exists():
        release(recipe.output_dir, directory)
    return directory


TRAINERS = {
    "teacher": teacher_itself,
    "untrained": untrained,
    "masked_lm": masked_lm,
    "distill": distill,
}


def train(recipe, build, finish=None) -> None:
    """Run `pretrain` in this process unless the run is finished; UserError when it stops early."""
    from pretrain import entry
    from pretrain.training.finished import is_finished

    if is_finished(recipe):
        return
    began = time.monotonic()
    continued = (recipe.output_dir / "checkpoints").exists()
    code = entry.train(recipe, build, finish)
    if code:
        raise UserError(
            f"{recipe.output_dir}: stopped with exit code {code}; the same command continues",
            exit_code=code,
        )
    seconds = round(time.monotonic() - began, 1)
    write_json(recipe.output_dir / "seconds.json", {"seconds": seconds, "continued": continued})
