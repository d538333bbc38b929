"""Whether a run has nothing left to do. Read before anything heavy is imported."""

from pretrain.training import checkpoint
from pretrain.training.settings import TrainingRecipe

FINISHED = "finished.json"  # written last, after all that the run is for


def is_finished(recipe: TrainingRecipe) -> bool:
    """Whether the run has reached its last step, and what it was for is still there."""
    steps = [saved.step for saved in checkpoint.complete(checkpoint.folder(recipe.output_dir))]
    return (
        (recipe.output_dir / FINISHED).exists()
        and recipe.optimizer.total_steps in steps
        and all(path.exists() for path in recipe.products())
    )
