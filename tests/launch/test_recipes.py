"""The recipe for 64 GPUs beside the published one."""

from pathlib import Path

import pytest

from data_pipeline.base import recipes
from launch import plan, preflight
from launch.gpus import GPUS

RECIPES = Path(__file__).parents[2] / "launch" / "recipes"
ON_64 = RECIPES / "ppminilm-6l-768h" / "distill-64-gpus.yaml"
FILES = ("data.shards", "teacher.path")  # which only its user has


@pytest.fixture(scope="module")
def checked():
    return preflight.check_recipe(ON_64, (), 64)


def test_64_ranks_can_share_the_published_batch(checked):
    assert [text for text in checked.problems if not text.startswith(FILES)] == []


def test_it_trains_what_the_published_recipe_trains():
    published = recipes.read_yaml(RECIPES / "ppminilm-6l-768h" / "distill.yaml")
    here = recipes.read_yaml(ON_64)
    changed = recipes.differences(published, here)
    assert {str(change).partition(":")[0] for change in changed} <= {
        "output_dir", "precision.dtype", "compute.attention",
    }  # fmt: skip


def test_q_k_and_v_are_exchanged_and_all_fits_an_a100(checked):
    assert checked.cost["exchange_bytes"] > 0
    made = plan.estimate(checked.cost, GPUS["a100"], 64, 8)
    assert made.fits
    few = preflight.check_recipe(ON_64, (), 8).cost
    assert few["exchange_bytes"] == 0
    assert made.days < plan.estimate(few, GPUS["a100"], 8, 8).days
