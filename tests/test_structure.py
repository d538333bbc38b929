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
# Modules and sub-packages of finetune, lowest first: each may import itself and those before it.
# The first ones are tables of pure functions, from which the settings' allowed values derive.
FINETUNE = (
    "finetune.training.scores",
    "finetune.prune.criteria",
    "finetune.quantise.calibration",
    "finetune.deploy.formats",
    "finetune.tasks",
    "finetune.settings",
    "finetune.recipes",
    "finetune.training",
    "finetune.deploy",
    "finetune.prune",
    "finetune.quantise",
    "finetune.report",
    "finetune.serve",
    "finetune.stages",
    "finetune.compress",
    "finetune.__main__",
)
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


def place(module, order):
    """Index in `order` of the longest entry that is `module` or a package of it; None without."""
    names = [name for name in order if module == name or module.startswith(name + ".")]
    return order.index(max(names, key=len)) if names else None


@pytest.mark.parametrize("path", sorted((ROOT / "finetune").rglob("*.py")), ids=str)
def test_finetune_imports_point_one_way(path):
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    if path.name == "__init__.py" and path.parent.name == "finetune":
        return
    own = place(module, FINETUNE)
    assert own is not None, f"{module} has no place in the order"
    for name in imported_names(path):
        other = place(name, FINETUNE)
        assert other is None or other <= own, f"{module} imports {name}"


def imported_names(path):
    """Dotted names, `from a import b` as `a.b`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
