"""A run may start from the weights of another, with a fresh schedule."""

import numpy as np
import pytest

from data_pipeline.base.errors import UserError
from data_pipeline.base.recipes import check
from data_pipeline.loading.order import World
from data_pipeline.shards.format import Manifest
from pretrain import check as checks
from pretrain import run
from pretrain.encoders import weights
from pretrain.recipe import DistillRecipe
from pretrain.release.write import release
from pretrain.training import loop
from tests.pretrain import tiny


@pytest.fixture(scope="module")
def trained(tiny_root, tmp_path_factory):
    """The output_dir of a finished run."""
    output = tmp_path_factory.mktemp("initial") / "run"
    recipe = check(
        DistillRecipe, tiny.distill_values(tiny_root, output, **{"optimizer.total_steps": 3}), "t"
    )
    manifest = Manifest.read(recipe.data.shards)
    loop.fit(run.build(recipe, manifest), recipe, manifest, World())
    return output


@pytest.mark.parametrize("source", ["checkpoint", "release"])
def test_it_starts_from_the_weights_and_from_step_0(trained, tiny_root, tmp_path, source):
    path = trained / "checkpoints" / "step-3"
    expected = weights.read(path / "model.safetensors")
    if source == "release":
        path = tmp_path / "release"
        release(trained, path)
    values = tiny.distill_values(tiny_root, tmp_path / "run", init_from=str(path), seed=7)
    recipe = check(DistillRecipe, values, "test")
    assert checks.problems(recipe, 1) == []
    manifest = Manifest.read(recipe.data.shards)
    objective = run.build(recipe, manifest)
    session = loop.open_session(objective, recipe, manifest, World())
    session.log.__exit__()
    assert session.state.step == 0
    for name, value in objective.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), expected[name], err_msg=name)


def test_weights_of_another_size_or_none_are_refused(trained, tiny_root, tmp_path):
    values = tiny.distill_values(tiny_root, tmp_path / "run", init_from=str(tiny_root / "teacher"))
    recipe = check(DistillRecipe, values, "test")
    manifest = Manifest.read(recipe.data.shards)
    with pytest.raises(UserError, match="the weights do not fit the model"):
        loop.open_session(run.build(recipe, manifest), recipe, manifest, World())
    recipe = check(DistillRecipe, values | {"init_from": str(tmp_path)}, "test")
    (problem,) = checks.problems(recipe, 1)
    assert problem.startswith("init_from: ") and "no model.safetensors" in problem
