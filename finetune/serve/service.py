"""Run the service until it is told to stop."""

from typing import Any

import uvicorn

from finetune.deploy.predict import Predictor
from finetune.recipes import ServeRecipe
from finetune.serve.app import create_app
from finetune.serve.protocol import protocol


def run_service(recipe: ServeRecipe) -> str:
    """Serve until SIGINT or SIGTERM; accepted requests are answered before it ends."""
    predictor = Predictor(recipe.model, recipe.threads, recipe.max_batch)
    predictor.predict(["。"])  # the first call allocates memory and is slow
    uvicorn.run(create_app(predictor, recipe), **options(recipe))
    return f"served {recipe.model}"


def options(recipe: ServeRecipe) -> dict[str, Any]:
    """How uvicorn runs."""
    return {
        "host": recipe.host,
        "port": recipe.port,
        "log_level": "info",
        "access_log": recipe.access_log,
        "loop": "uvloop",
        "http": protocol(recipe.request_seconds),
        "ws": "none",  # nothing here speaks it
        "timeout_keep_alive": recipe.keep_alive_seconds,
        "timeout_graceful_shutdown": recipe.stop_seconds,
    }
