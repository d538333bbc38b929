"""Run the service until it is told to stop."""

from finetune.deploy.predict import Predictor
from finetune.recipes import ServeRecipe
from finetune.serve.app import create_app


def run(recipe: ServeRecipe) -> str:
    """Serve until SIGINT or SIGTERM; requests under way are answered before it ends."""
    import uvicorn

    predictor = Predictor(recipe.model, recipe.threads, recipe.max_batch)
    predictor.predict(["。"])  # the first call allocates; nobody should wait for that
    uvicorn.run(
        create_app(predictor, recipe),
        host=recipe.host,
        port=recipe.port,
        log_level="info",
        timeout_graceful_shutdown=recipe.stop_seconds,
        limit_concurrency=recipe.queue_limit,
    )
    return f"served {recipe.model}"
