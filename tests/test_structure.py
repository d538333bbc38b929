"""The rules of the repository that a program can check."""

import ast
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "data_pipeline": {"data_pipeline"},
    "pretrain": {"pretrain", "data_pipeline"},
    "finetune": {"finetune", "pretrain", "data_pipeline"},
    "launch": {"launch", "data_pipeline.base"},
}
SOURCES = sorted(path for package in ALLOWED for path in (ROOT / package).rglob("*.py"))


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way_and_files_stay_short(path):
    package = path.relative_to(ROOT).parts[0]
    for name in imported(path):
        if name.split(".")[0] in ALLOWED:
            allowed = ALLOWED[package]
            assert any(name == base or name.startswith(base + ".") for base in allowed), name
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def same_keys(one, other):
    """Whether two recipes have the same keys; a section that is off is null."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_keys(one[key], other[key]) for key in one)
    return True


RECIPES = ROOT / "launch" / "recipes"
SHARED = sorted({path.name for path in (RECIPES / "ppminilm-6l-768h").glob("*.yaml")})


@pytest.mark.parametrize("name", SHARED)
def test_the_published_recipe_differs_from_the_demos_only_in_values(name):
    published, demo = (
        yaml.safe_load((RECIPES / folder / name).read_text(encoding="utf-8"))
        for folder in ("ppminilm-6l-768h", "demo")
    )
    assert same_keys(published, demo)
