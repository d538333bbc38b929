"""A finished run is left as it is, unless it is another one or is given more steps."""

import pytest

from data_pipeline.base.errors import UserError
from data_pipeline.base.recipes import check
from data_pipeline.loading.order import World
from data_pipeline.shards.format import Manifest
from pretrain import run
from pretrain.recipe import DistillRecipe
from pretrain.training import loop
from pretrain.training.finished import is_finished
from pretrain.training.metrics import read_metrics
from tests.pretrain import tiny


@pytest.fixture
def recipe_with(tiny_root, tmp_path):
    """A function: the tiny recipe of 4 steps with changes."""

    def make(**changes):
        values = tiny.distill_values(
            tiny_root, tmp_path / "run", **({"optimizer.total_steps": 4} | changes)
        )
        return check(DistillRecipe, values, "test")

    return make


def train(recipe):
    manifest = Manifest.read(recipe.data.shards)
    assert loop.fit(run.build(recipe, manifest), recipe, manifest, World()) == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [("seed", 5), ("optimizer.learning_rate", 1.0), ("student.hidden_size", 8),
     ("optimizer.total_steps", 3)],
)  # fmt: skip
def test_a_finished_run_with_a_changed_recipe_is_refused(recipe_with, name, value):
    train(recipe_with())
    assert is_finished(recipe_with())
    assert is_finished(recipe_with(**{"checkpoint.every_steps": 9, "teacher.path": "/moved"}))
    with pytest.raises(UserError, match=f"{name}: was .*, is now {value}"):
        is_finished(recipe_with(**{name: value}))


def test_a_finished_run_may_be_given_more_steps(recipe_with):
    train(recipe_with())
    longer = recipe_with(**{"optimizer.total_steps": 7})
    assert not is_finished(longer)
    train(longer)
    assert is_finished(longer)
    records = read_metrics(longer.output_dir / "metrics.jsonl")
    assert [record["step"] for record in records] == list(range(1, 8))
    assert records[4]["optim/lr"] > records[3]["optim/lr"]  # the decay now ends at step 7


def test_an_unfinished_run_keeps_its_schedule(recipe_with):
    """More steps would change rates that were already used."""
    recipe = recipe_with(**{"checkpoint.every_steps": 2})
    train(recipe)
    import shutil

    shutil.rmtree(recipe.output_dir / "checkpoints" / "step-4")
    (recipe.output_dir / "finished.json").unlink()
    with pytest.raises(UserError, match="total_steps: was 4, is now 7"):
        train(recipe_with(**{"optimizer.total_steps": 7}))
