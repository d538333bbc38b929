"""Run the service until it is told to stop."""

from finetune.deploy.predict import Predictor
from finetune.recipes import ServeRecipe
from finetune.serve.app import create_app


def run_service(recipe: ServeRecipe) -> str:
    """Serve until SIGINT or SIGTERM; accepted requests are answered before it ends."""
    import uvicorn

    predictor = Predictor(recipe.model, recipe.threads, recipe.max_batch)
    predictor.predict(["。"])  # the first call allocates memory and is slow
    uvicorn.run(
        create_app(predictor, recipe),
        host=recipe.host,
        port=recipe.port,
        log_level="info",
        timeout_graceful_shutdown=recipe.stop_seconds,
        limit_concurrency=recipe.queue_limit,
    )
    return f"served {recipe.model}"
