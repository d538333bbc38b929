"""Search of batch size and learning rate: the published grid, or Optuna's TPE.

The study is on disk (study.db), so that an interrupted search goes on; bad trials are pruned by the
median of the others at the same step. At the end the best settings are trained once more into a
classifier directory.
"""

import sys
from pathlib import Path

from data_pipeline.base.errors import UserError
from data_pipeline.base.files import write_json
from data_pipeline.base.recipes import differences
from finetune.recipes import SearchRecipe, TrainRecipe
from finetune.settings import FitSettings, SearchSettings
from finetune.tasks import open_task
from finetune.training.kinds import KINDS
from finetune.training.output import make_once
from pretrain.encoders.config import locate, read_config


def search(recipe: SearchRecipe) -> dict:
    """Search, then train the best; returns its settings, score and directory."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    read_config(recipe.encoder)  # says how to get an encoder that is not there
    recipe = recipe.model_copy(update={"encoder": locate(recipe.encoder)})
    study = open_study(recipe)
    left = trials_of(recipe.search) - len(_ended(study))
    if left > 0:
        objective = objective_of(recipe)
        study.optimize(objective, n_trials=left, callbacks=[_show])
    if not study.best_trials:
        raise UserError(f"{recipe.output_dir}: no trial finished")
    kind = KINDS[open_task(recipe.task).kind]
    score = kind.encoded.score_name(recipe.train.choose_by)
    plots(study, recipe.output_dir, f"{score} on dev")
    best = fit_settings(recipe.train, study.best_params)
    summary = {
        "best": study.best_params,
        score: study.best_value,
        "trials": [
            {"params": trial.params, "value": trial.value, "state": trial.state.name}
            for trial in study.trials
        ],
    }
    write_json(recipe.output_dir / "search.json", summary)
    directory = _train_best(recipe, best)
    return {"classifier": str(directory), **summary}


def _train_best(recipe: SearchRecipe, settings: FitSettings) -> Path:
    best = TrainRecipe(
        output_dir=recipe.output_dir / "best",
        encoder=recipe.encoder,
        task=recipe.task,
        train=settings,
        max_length=recipe.max_length,
    )

    def write(directory: Path) -> None:
        from finetune.training.train import train_classifier

        train_classifier(best, directory)

    return make_once("train", best.output_dir, best, [best.encoder], write)


def trials_of(settings: SearchSettings) -> int:
    """All points of the grid, or as many as are asked for."""
    if settings.method == "grid":
        return len(settings.batch_sizes) * len(settings.learning_rates)
    return settings.trials


def open_study(recipe: SearchRecipe):
    """The study on disk; UserError when it was made by another recipe."""
    import optuna

    settings = recipe.search
    recipe.output_dir.mkdir(parents=True, exist_ok=True)
    grid = {"batch_size": settings.batch_sizes, "learning_rate": settings.learning_rates}
    sampler = (
        optuna.samplers.GridSampler({k: list(v) for k, v in grid.items()}, seed=settings.seed)
        if settings.method == "grid"
        else optuna.samplers.TPESampler(seed=settings.seed)
    )
    study = optuna.create_study(
        storage=f"sqlite:///{(recipe.output_dir / 'study.db').resolve()}",
        study_name="search",
        sampler=sampler,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=settings.startup_trials),
        direction="maximize",
        load_if_exists=True,
    )
    values = recipe.model_dump(mode="json", exclude={"output_dir": True, "search": {"trials"}})
    before = study.user_attrs.get("recipe")
    if before is None:
        study.set_user_attr("recipe", values)
    elif changed := differences(before, values):
        raise UserError(
            f"{recipe.output_dir}: its study was made by other settings: {'; '.join(changed)[:300]}"
        )
    return study


def objective_of(recipe: SearchRecipe):
    """What Optuna calls: fine-tune with a trial's settings; the best score on dev."""
    import optuna

    from finetune.training import classifier
    from finetune.training.evaluate import evaluate
    from finetune.training.fit import fit
    from finetune.training.task_data import encode_task
    from finetune.training.train import backward_of

    data = encode_task(recipe.task, Path(recipe.encoder), recipe.max_length)

    def objective(trial) -> float:
        settings = fit_settings(recipe.train, suggested(trial, recipe.search))
        score = data.train.score_name(settings.choose_by)
        model = classifier.from_encoder(recipe.encoder, len(data.task.labels), data.task.kind)

        def report(entry: dict) -> None:
            trial.report(entry[score], entry["step"] * settings.batch_size)
            if trial.should_prune():
                raise optuna.TrialPruned

        fitted = fit(
            model,
            data.train,
            settings,
            backward_of(model, settings, data.train),
            lambda: evaluate(model, data.dev),
            label=f"trial {trial.number}",
            on_evaluation=report,
        )
        return fitted.best[score]

    return objective


def suggested(trial, settings: SearchSettings) -> dict:
    """A trial's batch size and learning rate."""
    batch_size = trial.suggest_categorical("batch_size", list(settings.batch_sizes))
    rates = settings.learning_rates
    if settings.method == "grid":
        return {
            "batch_size": batch_size,
            "learning_rate": trial.suggest_categorical("learning_rate", list(rates)),
        }
    rate = trial.suggest_float("learning_rate", min(rates), max(rates), log=True)
    return {"batch_size": batch_size, "learning_rate": rate}


def fit_settings(base: FitSettings, params: dict) -> FitSettings:
    """The recipe's settings with a trial's values."""
    return base.model_copy(update=params)


def plots(study, directory: Path, score: str) -> None:
    """history.png: score by trial; settings.png: score by setting."""
    import warnings

    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as draw

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna's drawing module calls itself experimental
        for name, plot in (
            ("history.png", draw.plot_optimization_history),
            ("settings.png", draw.plot_slice),
        ):
            plot(study, target_name=score)
            pyplot.gcf().set_size_inches(11, 5)
            pyplot.savefig(directory / name, dpi=110, bbox_inches="tight")
            pyplot.close("all")


def _ended(study) -> list:
    return [trial for trial in study.trials if trial.state.is_finished()]


def _show(study, trial) -> None:
    value = "pruned" if trial.value is None else f"{trial.value:.4f}"
    line = f"trial {trial.number}: {trial.params} {value}; best {study.best_value:.4f}"
    print(line, file=sys.stderr, flush=True)
