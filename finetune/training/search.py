"""Search of training settings: every point of a grid, or Optuna's TPE.

The study is on disk (study.db), so that an interrupted search continues; a trial that did not end
is done again. TPE prunes bad trials by the median of the others at the same step; a grid tries
every point to its end. `best/` is the classifier of the best trial so far.
"""

import shutil
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from data_pipeline.base.errors import UserError
from data_pipeline.base.files import write_json
from finetune.recipes import SearchRecipe
from finetune.settings import DistillSettings, FitSettings, SearchSettings
from finetune.training.output import Input, changes, fingerprints, locked
from pretrain.encoders.config import locate, read_config

BEST = "best"
STUDY = "study.db"
CANDIDATE = ".candidate"  # classifier of the trial that has just ended


def search(recipe: SearchRecipe) -> dict:
    """Search; returns the best settings, their score on dev, and the directory of their model."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    read_config(recipe.encoder)  # the error says how to get an encoder that is missing
    recipe = recipe.model_copy(update={"encoder": locate(recipe.encoder)})
    with locked(recipe.output_dir):
        study = open_study(recipe)
        trials = Trials(recipe)
        for params in left_to_try(study, recipe.search):
            if params is not None:
                study.enqueue_trial(params)
            study.optimize(trials.objective, n_trials=1, callbacks=[trials.after_trial])
        if not completed(study):
            raise UserError(f"{recipe.output_dir}: no trial was completed")
        trials.restore_best(study)
        plots(study, recipe.output_dir, f"{trials.score} on dev")
        summary = {
            "best": study.best_params,
            "trial": study.best_trial.number,
            "score": trials.score,
            trials.score: study.best_value,
            "trials": [
                {"params": trial.params, "value": trial.value, "state": trial.state.name}
                for trial in study.trials
            ],
        }
        write_json(recipe.output_dir / "search.json", summary)
    return {"classifier": str(recipe.output_dir / BEST), **summary}


def space(settings: SearchSettings) -> dict[str, tuple]:
    """What is searched: name to its values. Names without values are left out."""
    values = {
        "batch_size": settings.batch_sizes,
        "learning_rate": settings.learning_rates,
        "epochs": settings.epochs,
        "alpha": settings.alphas,
        "temperature": settings.temperatures,
    }
    return {name: choices for name, choices in values.items() if choices}


def grid(settings: SearchSettings) -> list[dict[str, Any]]:
    """Every combination of the values."""
    choices = space(settings)
    return [dict(zip(choices, point, strict=True)) for point in product(*choices.values())]


def left_to_try(study, settings: SearchSettings) -> Iterator[dict[str, Any] | None]:
    """Parameters of the trials that are left, one after the other, as the study grows.

    None: run the trial that is queued already, or let TPE choose. Trials that were interrupted or
    failed count as not done.
    """
    while True:
        done = [trial.params for trial in ended(study)]
        if settings.method == "grid":
            open_points = [point for point in grid(settings) if point not in done]
            if not open_points:
                return
        else:
            if len(done) >= settings.trials:
                return
            names = set(space(settings))
            open_points = [
                trial.params
                for trial in study.trials
                if trial.state.name in ("FAIL", "RUNNING")
                and set(trial.params) == names
                and trial.params not in done
            ]
        is_queued = any(trial.state.name == "WAITING" for trial in study.trials)
        yield open_points[0] if open_points and not is_queued else None


def open_study(recipe: SearchRecipe):
    """The study on disk; UserError when it was made by another recipe or from other inputs."""
    import optuna

    settings = recipe.search
    try:
        recipe.output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        where = recipe.output_dir
        raise UserError(f"output_dir: {where}: cannot write: {error.strerror}") from None
    if not (recipe.output_dir / STUDY).exists() and any(recipe.output_dir.iterdir()):
        raise UserError(  # a folder `best` in it would be replaced
            f"{recipe.output_dir}: exists and was not made by this command; "
            "name another output_dir or remove it"
        )
    study = optuna.create_study(
        storage=f"sqlite:///{(recipe.output_dir / STUDY).resolve()}",
        study_name="search",
        pruner=(
            optuna.pruners.NopPruner()
            if settings.method == "grid"
            else optuna.pruners.MedianPruner(n_startup_trials=settings.startup_trials)
        ),
        direction="maximize",
        load_if_exists=True,
    )
    # a sampler that starts again from the seed would repeat its first choices
    study.sampler = optuna.samplers.TPESampler(seed=settings.seed + len(study.trials))
    inputs: list[Input] = [recipe.encoder, recipe.task]
    if recipe.distill:
        inputs.append(recipe.distill.teacher)
    values = {
        "recipe": recipe.model_dump(
            mode="json", exclude={"output_dir": True, "search": {"trials"}}
        ),
        **fingerprints(inputs),
    }
    before = study.user_attrs
    if "recipe" not in before:
        for name, value in values.items():
            study.set_user_attr(name, value)
    elif changed := changes(before, values):
        raise UserError(
            f"{recipe.output_dir}: its study was made by other settings: {'; '.join(changed)[:300]}"
        )
    return study


class Trials:
    """Trains one classifier a trial, and leaves that of the best one in `best/`."""

    def __init__(self, recipe: SearchRecipe):
        from finetune.training.task_data import encode_task

        self.recipe = recipe
        self.data = encode_task(recipe.task, Path(recipe.encoder), recipe.max_length)
        self.score = self.data.train.score_name(recipe.train.choose_by)

    def objective(self, trial) -> float:
        """Fine-tune with a trial's settings; the best score on dev."""
        return self.train(suggested(trial, self.recipe.search), trial.number, trial)

    def train(self, params: dict[str, Any], number: int, trial=None) -> float:
        """Train with `params` into the candidate's directory; equal params give equal weights."""
        import optuna

        from finetune.training.train import fine_tune

        settings = fit_settings(self.recipe.train, params)
        distill = distill_settings(self.recipe.distill, params)
        data = self.data

        def report(entry: dict) -> None:
            if trial is None:
                return
            trial.report(entry[self.score], entry["step"] * settings.batch_size)
            if trial.should_prune():
                raise optuna.TrialPruned

        model, fitted = fine_tune(self.recipe, data, settings, distill, f"trial {number}", report)
        candidate = self.recipe.output_dir / CANDIDATE
        shutil.rmtree(candidate, ignore_errors=True)
        data.save(model, candidate, data.result(model, fitted, trial=number, params=params))
        return fitted.best[self.score]

    def after_trial(self, study, trial) -> None:
        """Show a trial; its classifier becomes `best/` when it is the best so far."""
        value = "pruned" if trial.value is None else f"{trial.value:.4f}"
        best = f"; best {study.best_value:.4f}" if completed(study) else ""
        print(f"trial {trial.number}: {trial.params} {value}{best}", file=sys.stderr, flush=True)
        if completed(study) and study.best_trial.number == trial.number:
            self._promote()

    def restore_best(self, study) -> None:
        """Train the best trial again if its classifier was lost between two moments."""
        from finetune.training.files import read_result

        best = study.best_trial
        if read_result(self.recipe.output_dir / BEST).get("trial") != best.number:
            self.train(best.params, best.number)
            self._promote()
        shutil.rmtree(self.recipe.output_dir / CANDIDATE, ignore_errors=True)

    def _promote(self) -> None:
        best = self.recipe.output_dir / BEST
        shutil.rmtree(best, ignore_errors=True)
        (self.recipe.output_dir / CANDIDATE).rename(best)


def suggested(trial, settings: SearchSettings) -> dict[str, Any]:
    """A trial's settings: from the grid's point that is enqueued, or where TPE looks next."""
    choices = space(settings)
    params = {}
    for name, values in choices.items():
        if settings.method == "grid" or name in ("batch_size", "epochs"):
            params[name] = trial.suggest_categorical(name, list(values))
        else:
            logarithmic = name == "learning_rate"
            params[name] = trial.suggest_float(name, min(values), max(values), log=logarithmic)
    return params


def fit_settings(base: FitSettings, params: dict[str, Any]) -> FitSettings:
    """The recipe's settings with a trial's values."""
    return base.model_copy(
        update={name: params[name] for name in params if name in FitSettings.model_fields}
    )


def distill_settings(base: DistillSettings | None, params: dict[str, Any]):
    """The recipe's distillation with a trial's values; None without distillation."""
    return base and base.model_copy(
        update={name: params[name] for name in params if name in DistillSettings.model_fields}
    )


def ended(study) -> list:
    """Trials that ran to their end or were pruned."""
    return [trial for trial in study.trials if trial.state.name in ("COMPLETE", "PRUNED")]


def completed(study) -> list:
    """Trials that ran to their end."""
    return [trial for trial in study.trials if trial.state.name == "COMPLETE"]


def plots(study, directory: Path, score: str) -> None:
    """history.png: score by trial; settings.png: score by setting."""
    import warnings

    import matplotlib.style

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as draw

    # Optuna sets the style of the whole process: the context gives the caller's back.
    with warnings.catch_warnings(), matplotlib.style.context("default"):
        warnings.simplefilter("ignore")  # Optuna's drawing module calls itself experimental
        for name, plot in (
            ("history.png", draw.plot_optimization_history),
            ("settings.png", draw.plot_slice),
        ):
            plot(study, target_name=score)
            pyplot.gcf().set_size_inches(11, 5)
            pyplot.savefig(directory / name, dpi=110, bbox_inches="tight")
            pyplot.close("all")
