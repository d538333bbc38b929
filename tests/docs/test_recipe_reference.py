"""docs/recipes.md is what the typed settings say today, and has every command with a recipe."""

from docs.generators import recipe_reference
from finetune.__main__ import COMMANDS


def test_the_page_is_current():
    page = recipe_reference.PAGE.read_text(encoding="utf-8")
    assert page == recipe_reference.page(), "run `make docs` and commit docs/recipes.md"


def test_it_has_the_recipe_of_every_command_of_finetune():
    shown = recipe_reference.RECIPES
    for name, item in COMMANDS.items():
        assert shown[f"python -m finetune {name}"] is item.recipe


def test_bounds_defaults_and_changed_sections_are_shown():
    page = recipe_reference.page()
    assert "| `port` | whole number, at least 0, at most 65535 | `8080` |" in page
    assert (
        "| `fit` | [FitSettings](#fitsettings) | `{epochs: 2.0, learning_rate: 0.0001}` |" in page
    )
    assert "| `file` | path or `null` | `null` | A BERT vocab.txt. |" in page
