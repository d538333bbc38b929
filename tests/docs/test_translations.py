"""The Chinese guides have the commands, recipes and settings of the English ones."""

import re

import pytest

from tests.docs.pages import ROOT, blocks

CHINESE = sorted((ROOT / "docs" / "zh").glob("*.md"))


def code_of(page) -> list[tuple[str, str | None, str]]:
    """All blocks of a page, without comments."""
    without = [re.sub(r" *(?<!\S)#.*$", "", block.text, flags=re.M) for block in blocks(page)]
    return [(b.language, b.title, text) for b, text in zip(blocks(page), without, strict=True)]


def test_the_guides_are_translated():
    assert {page.name for page in CHINESE} == {"your-own.md", "scale.md", "deployment.md"}


@pytest.mark.parametrize("page", CHINESE, ids=lambda page: page.stem)
def test_commands_and_recipes_are_those_of_the_english_page(page):
    assert code_of(page) == code_of(ROOT / "docs" / page.name)


@pytest.mark.parametrize("page", CHINESE, ids=lambda page: page.stem)
def test_options_and_codes_are_in_the_english_page_too(page):
    """What the translation says in code marks is a setting, a file or a command of the original."""
    english = " ".join((ROOT / "docs" / page.name).read_text(encoding="utf-8").split())
    for code in re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8")):
        assert code in english, code
