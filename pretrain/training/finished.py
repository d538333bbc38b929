"""Whether a run has nothing left to do. Read before anything heavy is imported."""

import json

from data_pipeline.base.errors import UserError
from data_pipeline.base.files import write_json
from pretrain.training import checkpoint
from pretrain.training.same_run import recipe_differences, refusal
from pretrain.training.settings import TrainingRecipe

DATA_SUMMARY = "data.json"  # `Manifest.summary` of what the run is trained on, for its release
FINISHED = "finished.json"  # written last, after all that the run is for


def mark_finished(recipe: TrainingRecipe, counters: dict[str, int]) -> None:
    """Write `finished.json`."""
    content = {**counters, "recipe": recipe.model_dump(mode="json")}
    write_json(recipe.output_dir / FINISHED, content)


def is_finished(recipe: TrainingRecipe) -> bool:
    """Whether the run has reached its last step, and what it was for is still there.

    Raises:
        UserError: another run is finished there, by the recipe.
    """
    try:
        content = json.loads((recipe.output_dir / FINISHED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    if "recipe" in content:
        changed = recipe_differences(content["recipe"], recipe, content["step"])
        if changed:
            raise UserError(refusal(f"{recipe.output_dir}: this finished run", changed))
    steps = [saved.step for saved in checkpoint.complete(checkpoint.folder(recipe.output_dir))]
    return recipe.optimizer.total_steps in steps and all(
        path.exists() for path in recipe.products()
    )
