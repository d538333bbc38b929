"""Whether a recipe still describes the run that a directory holds. Imports no Paddle."""

import copy
from collections.abc import Iterable
from typing import Any

from data_pipeline.base import recipes
from pretrain.training.settings import TrainingRecipe

WRITTEN = ("output_dir", "model_dir")  # fields that name directories a run writes: it may be moved
# A resumed run may differ in these and still be the same run. A teacher is compared by its weights.
FREE_TO_CHANGE: tuple[str, ...] = (
    *WRITTEN,
    *("data.shards", "data.workers", "data.one_reader_per_node"),
    *("teacher.path", "teacher.weights", "optimizer.sharded", "checkpoint", "monitor", "safety"),
)
TOTAL_STEPS = "optimizer.total_steps"


def recipe_differences(saved: dict[str, Any], recipe: TrainingRecipe, saved_step: int) -> list[str]:
    """What makes a recipe that of another run, each with its field; empty when nothing.

    saved: the recipe of the run as plain values. A finished run may be given more steps.
    """
    now = recipe.model_dump(mode="json")
    free = FREE_TO_CHANGE
    total = saved["optimizer"]["total_steps"]
    if saved_step == total and recipe.optimizer.total_steps > total:
        free = (*free, TOTAL_STEPS)
    return recipes.differences(without(saved, free), without(now, free))


def refusal(where: object, changed: Iterable[str]) -> str:
    """The message about a directory whose run is another one."""
    return (
        f"{where} cannot be resumed by this recipe:\n"
        + "\n".join(f"  {text}" for text in changed)
        + "\n  Undo the change, or give the run another output_dir; init_from can then start it "
        "from these weights."
    )


def without(values: dict[str, Any], fields: Iterable[str]) -> dict[str, Any]:
    """A copy of nested `values` that lacks the fields of these dotted names."""
    values = copy.deepcopy(values)
    for field_name in fields:
        *parents, last = field_name.split(".")
        section = values
        for key in parents:
            section = section.get(key, {})
        section.pop(last, None)
    return values
