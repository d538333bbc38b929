"""Grid and TPE search: every point, pruning, resuming, refusing another recipe's study."""

import shutil

import matplotlib
import pytest

from data_pipeline.base.errors import UserError
from data_pipeline.base.recipes import check
from finetune.recipes import SearchRecipe
from finetune.training import classifier, search
from finetune.training.evaluate import evaluate
from finetune.training.task_data import encode_task

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


def test_the_grid_tries_every_point_to_its_end(tmp_path, encoder, task):
    points = {"batch_sizes": [16, 64], "learning_rates": [3e-3, 1e-9]}
    settings = {"method": "grid", **points, "startup_trials": 1}  # would prune all after the first
    colors = matplotlib.rcParams["axes.prop_cycle"]
    output = search.search(recipe(tmp_path, encoder, task, **settings))
    assert (
        matplotlib.rcParams["axes.prop_cycle"] == colors
    )  # the style of the process is left alone
    assert [trial["state"] for trial in output["trials"]] == ["COMPLETE"] * 4
    tried = {(t["params"]["batch_size"], t["params"]["learning_rate"]) for t in output["trials"]}
    assert tried == {(16, 1e-9), (16, 3e-3), (64, 1e-9), (64, 3e-3)}
    assert output["best"]["learning_rate"] == 3e-3
    for name in ("history.png", "settings.png"):
        assert (tmp_path / "s" / name).read_bytes().startswith(b"\x89PNG")


def test_the_best_reported_is_the_classifier_in_best(tmp_path, encoder, task):
    settings = {"method": "grid", "batch_sizes": [16], "learning_rates": [3e-3, 1e-9]}
    output = search.search(recipe(tmp_path, encoder, task, **settings))
    loaded = classifier.load(output["classifier"])
    assert loaded.result["trial"] == output["trial"]
    assert loaded.result["params"] == output["best"]
    assert loaded.result["dev"]["accuracy"] == output["accuracy"]
    data = encode_task(task, loaded.tokenizer, 16)
    assert evaluate(loaded.model, data.dev)["accuracy"] == output["accuracy"]
    assert [path.name for path in (tmp_path / "s").iterdir() if path.name[0] == "."] == []


def test_an_interrupted_point_of_the_grid_is_tried_again(tmp_path, encoder, task, monkeypatch):
    settings = {"method": "grid", "batch_sizes": [16, 64], "learning_rates": [1e-5, 3e-3]}
    train = search.Trials.train

    def interrupted(self, params, number, trial=None):
        if number == 1:
            raise KeyboardInterrupt
        return train(self, params, number, trial)

    monkeypatch.setattr(search.Trials, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        search.search(recipe(tmp_path, encoder, task, **settings))
    monkeypatch.setattr(search.Trials, "train", train)
    output = search.search(recipe(tmp_path, encoder, task, **settings))
    done = [t["params"] for t in output["trials"] if t["state"] == "COMPLETE"]
    assert len(done) == 4
    assert {tuple(sorted(point.items())) for point in done} == {
        (("batch_size", size), ("learning_rate", rate))
        for size in (16, 64)
        for rate in (1e-5, 3e-3)
    }


def test_a_point_that_was_queued_and_not_started_is_not_lost(tmp_path, encoder, task):
    settings = {"method": "grid", "batch_sizes": [16, 64], "learning_rates": [3e-3]}
    values = recipe(tmp_path, encoder, task, **settings)
    search.open_study(values).enqueue_trial({"batch_size": 64, "learning_rate": 3e-3})
    output = search.search(values)
    assert sorted(trial["params"]["batch_size"] for trial in output["trials"]) == [16, 64]
    assert [trial["state"] for trial in output["trials"]] == ["COMPLETE"] * 2


def test_equal_settings_give_equal_trials(tmp_path, encoder, task):
    settings = {"method": "grid", "batch_sizes": [16], "learning_rates": [3e-3]}
    trials = search.Trials(recipe(tmp_path, encoder, task, **settings))
    params = {"batch_size": 16, "learning_rate": 3e-3}
    candidate = tmp_path / "s" / search.CANDIDATE / "model.safetensors"
    found = []
    for number in range(2):
        trials.train(params, number)
        found.append(candidate.read_bytes())
    assert found[0] == found[1]


def test_a_lost_best_classifier_is_trained_again(tmp_path, encoder, task):
    settings = {"method": "grid", "batch_sizes": [16], "learning_rates": [3e-3]}
    output = search.search(recipe(tmp_path, encoder, task, **settings))
    weights = tmp_path / "s" / "best" / "model.safetensors"
    before = weights.read_bytes()
    shutil.rmtree(tmp_path / "s" / "best")
    assert search.search(recipe(tmp_path, encoder, task, **settings))["trial"] == output["trial"]
    assert weights.read_bytes() == before


def test_distillation_is_searched_too(tmp_path, encoder, task, classifier_dir):
    settings = {
        "method": "grid",
        "batch_sizes": [16],
        "learning_rates": [3e-3],
        "alphas": [0.0, 1.0],
        "temperatures": [2.0],
        "epochs": [0.5],
    }
    with pytest.raises(UserError, match="need the section distill"):
        recipe(tmp_path, encoder, task, **settings)
    values = recipe(tmp_path, encoder, task, **{**settings, "alphas": [], "temperatures": []})
    values = values.model_dump() | {"distill": {"teacher": classifier_dir}, "search": settings}
    output = search.search(check(SearchRecipe, values, "test"))
    params = [trial["params"] for trial in output["trials"]]
    assert [(p["alpha"], p["temperature"], p["epochs"]) for p in params] == [
        (0.0, 2.0, 0.5),
        (1.0, 2.0, 0.5),
    ]
    assert len({trial["value"] for trial in output["trials"]} | {-1}) >= 2


def test_tpe_continues_where_it_stopped(tmp_path, encoder, task):
    settings = {"method": "tpe", "batch_sizes": [16], "learning_rates": [1e-6, 1e-2]}
    first = recipe(tmp_path, encoder, task, **settings, trials=2, startup_trials=2)
    assert len(search.search(first)["trials"]) == 2
    more = recipe(tmp_path, encoder, task, **settings, trials=5, startup_trials=2)
    output = search.search(more)
    assert len(output["trials"]) == 5
    rates = [trial["params"]["learning_rate"] for trial in output["trials"]]
    assert len(set(rates)) == 5  # a continued search does not repeat itself
    assert all(1e-6 <= rate <= 1e-2 for rate in rates)
    other = recipe(tmp_path, encoder, task, **settings, trials=5, startup_trials=3)
    with pytest.raises(UserError, match=r"search\.startup_trials: was 2, is now 3"):
        search.search(other)


def test_bad_trials_are_pruned(tmp_path, encoder, task):
    settings = {"method": "tpe", "batch_sizes": [16], "learning_rates": [1e-9, 1e-2]}
    values = recipe(tmp_path, encoder, task, **settings, startup_trials=1)
    study = search.open_study(values)
    good = study.ask()
    for step in (64, 128, 192, 256):
        good.report(2.0, step)  # better than any accuracy: what follows is pruned
    study.tell(good, 2.0)
    study.optimize(search.Trials(values).objective, n_trials=1)
    assert study.trials[1].state.name == "PRUNED"
