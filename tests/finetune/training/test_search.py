"""Grid and TPE search: every point, pruning, resuming, refusing another recipe's study."""

import json

import pytest

from data_pipeline.base.errors import UserError
from data_pipeline.base.recipes import check
from finetune.recipes import SearchRecipe
from finetune.training import search

QUICK = {"epochs": 1, "batch_size": 16, "dropout": 0.0, "evaluate_every": 4}


def recipe(tmp_path, encoder, task, **settings) -> SearchRecipe:
    values = {
        "output_dir": tmp_path / "s",
        "encoder": encoder,
        "task": task.model_dump(),
        "train": QUICK,
        "max_length": 16,
        "search": settings,
    }
    return check(SearchRecipe, values, "test")


def test_the_grid_has_every_point(tmp_path, encoder, task):
    settings = {"method": "grid", "batch_sizes": [16, 64], "learning_rates": [1e-5, 3e-3]}
    made = search.search(recipe(tmp_path, encoder, task, **settings, startup_trials=10))
    points = {(t["params"]["batch_size"], t["params"]["learning_rate"]) for t in made["trials"]}
    assert points == {(16, 1e-5), (16, 3e-3), (64, 1e-5), (64, 3e-3)}
    assert made["best"]["learning_rate"] == 3e-3
    stage = json.loads((tmp_path / "s" / "best" / "stage.json").read_text())
    assert stage["settings"]["train"]["learning_rate"] == 3e-3
    for name in ("history.png", "settings.png"):
        assert (tmp_path / "s" / name).read_bytes().startswith(b"\x89PNG")


def test_tpe_goes_on_where_it_stopped(tmp_path, encoder, task):
    settings = {"method": "tpe", "batch_sizes": [16], "learning_rates": [1e-6, 1e-2]}
    first = recipe(tmp_path, encoder, task, **settings, trials=2, startup_trials=2)
    assert len(search.search(first)["trials"]) == 2
    more = recipe(tmp_path, encoder, task, **settings, trials=5, startup_trials=2)
    made = search.search(more)
    assert len(made["trials"]) == 5
    assert all(1e-6 <= t["params"]["learning_rate"] <= 1e-2 for t in made["trials"])
    other = recipe(tmp_path, encoder, task, **settings, trials=5, startup_trials=3)
    with pytest.raises(UserError, match=r"search\.startup_trials: was 2, is now 3"):
        search.search(other)


def test_bad_trials_are_pruned(tmp_path, encoder, task):
    settings = {"method": "tpe", "batch_sizes": [16], "learning_rates": [1e-9, 1e-2]}
    study = search.open_study(recipe(tmp_path, encoder, task, **settings, startup_trials=1))
    good = study.ask()
    for step in (64, 128, 192, 256):
        good.report(2.0, step)  # better than any accuracy: what follows is pruned
    study.tell(good, 2.0)
    study.optimize(
        search.objective_of(recipe(tmp_path, encoder, task, **settings, startup_trials=1)),
        n_trials=1,
    )
    assert study.trials[1].state.name == "PRUNED"
