"""The pictures of docs/losses.md are those of its formulas, and it shows all of them."""

import re

import pytest

from docs.generators import formulas


@pytest.mark.parametrize("name", formulas.FORMULAS)
def test_a_picture_is_current(name):
    drawn = (formulas.FOLDER / f"{name}.svg").read_text(encoding="utf-8")
    assert drawn == formulas.picture(formulas.FORMULAS[name]), "run `make docs` and commit it"


def test_the_page_shows_every_picture_and_no_other():
    page = (formulas.FOLDER.parent / "losses.md").read_text(encoding="utf-8")
    assert re.findall(r"\(formulas/(\w+)\.svg\)", page) == list(formulas.FORMULAS)
    assert {path.stem for path in formulas.FOLDER.iterdir()} == formulas.FORMULAS.keys()
