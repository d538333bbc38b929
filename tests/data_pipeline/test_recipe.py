from pathlib import Path

import pytest
import yaml

from data_pipeline.base import recipes
from data_pipeline.base.errors import UserError
from data_pipeline.recipe import BuildRecipe

SHIPPED = Path(__file__).parents[2] / "launch" / "recipes"
NAMES = ("demo", "ppminilm-6l-768h")


def keys(values, prefix=""):
    """Dotted names of all fields; those of a section that is null in one recipe count as one."""
    for key, value in values.items():
        if isinstance(value, dict) and key != "train":
            yield from keys(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


@pytest.mark.parametrize("name", [*NAMES, "teacher"])
def test_shipped_recipes_are_valid(name):
    recipe = recipes.load(BuildRecipe, SHIPPED / name / "data.yaml")
    assert recipe.max_length == 128


def test_shipped_recipes_differ_in_values_only():
    demo, published = (
        yaml.safe_load((SHIPPED / name / "data.yaml").read_text(encoding="utf-8")) for name in NAMES
    )
    assert list(keys(demo)) == list(keys(published))


def test_every_field_explains_itself():
    def fields(model):
        for name, field in model.model_fields.items():
            yield f"{model.__name__}.{name}", field.description
            if isinstance(field.annotation, type) and issubclass(field.annotation, recipes.Recipe):
                yield from fields(field.annotation)

    sections = {"clean", "dedup", "words", "vocab", "holdout", "run"}
    for name, description in fields(BuildRecipe):
        assert description or name.partition(".")[2] in sections, name


def test_how_it_runs_is_no_part_of_the_content(recipe):
    here = {"path": "a"}
    one = recipe(sources=[here], run={"workers": 1})
    two = recipe(sources=[here], run={"workers": 7, "engine": "dask"}, output_dir="elsewhere")
    assert one.content() == two.content()
    assert one.content() != recipe(sources=[here], max_length=64).content()


@pytest.mark.parametrize("source", [{}, {"path": "a", "packaged": "inews"}, {"packaged": "bbc"}])
def test_a_source_is_one_place(recipe, source):
    with pytest.raises(UserError, match="sources"):
        recipe(sources=[source])
