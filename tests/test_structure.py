"""Rules of the project that a program can check: direction of imports, length of files, recipes."""

import ast
from collections.abc import Iterator
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
# The sub-packages and modules of a package from the lowest to the highest. Each imports from
# itself and from those before it only; a module belongs to the longest entry that names it or a
# package of it. A package is checked once it has a row here.
ORDER = {
    "data_pipeline": [
        "base",
        "text",
        "sources",
        "shards",
        "loading",
        "recipe",
        "building",
        "__main__",
    ],
    "pretrain": [
        "encoders",
        "objectives",
        "training",
        "recipe",
        "release",
        "check",
        "cost",
        "entry",
        "mlm",
        "run",
        "probe",
        "plot",
        "__main__",
    ],
    "finetune": [
        # Tables from which the settings' allowed values derive, and what they need.
        "training.scores",
        "prune.criteria",
        "quantise.calibration",
        "deploy.onnx_session",
        "deploy.onnx_graph",
        "deploy.formats",
        "deploy.pooling",
        "tasks",
        "settings",
        "recipes",
        "training",
        "deploy",
        "prune",
        "quantise",
        "report",
        "serve",
        "stages",
        "clue",
        "budget",
        "compress",
        "__main__",
    ],
    "launch": [
        "environment",
        "restarts",
        "launcher",
        "supervise",
        "nodes",
        "job",
        "preflight",
        "gpus",
        "plan",
        "clusters",
        "train",
        "stages",
        "probes",
        "doctor",
        "selfcheck",
        "watch",
        "__main__",
    ],
}
SOURCES = sorted(path for package in ALLOWED for path in (ROOT / package).rglob("*.py"))


def module_name(path: Path) -> str:
    """`pretrain.training.step` of pretrain/training/step.py."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path) for path in SOURCES}


def imported(path: Path) -> Iterator[str]:
    """Full names of all modules that a file imports, those imported inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = [name for name in names if name in MODULES]
            yield from modules
            if len(modules) < len(names):  # the rest are functions and classes of the module
                yield node.module


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_imports_point_one_way_between_packages_and_files_stay_short(path):
    package = path.relative_to(ROOT).parts[0]
    for name in imported(path):
        if name.split(".")[0] in ALLOWED:
            allowed = ALLOWED[package]
            assert any(name == base or name.startswith(base + ".") for base in allowed), name
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def place(module: str) -> int | None:
    """Index in the order of its package; None for what is not in it."""
    package, _, inner = module.partition(".")
    entries = [e for e in ORDER[package] if inner == e or inner.startswith(f"{e}.")]
    return ORDER[package].index(max(entries, key=len)) if entries else None


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_imports_point_one_way_between_sub_packages(path):
    module = module_name(path)
    package, _, inner = module.partition(".")
    if package not in ORDER or not inner:
        return
    own = place(module)
    assert own is not None, f"{module} has no place in the order"
    for name in imported(path):
        if name.startswith(f"{package}."):
            assert place(name) <= own, f"{module} must not import {name}"


@pytest.mark.parametrize("package", ["data_pipeline", "pretrain", "finetune", "launch"])
def test_no_circle_of_imports(package):
    """The modules can be put in an order in which each imports only earlier ones."""
    imports = {
        module_name(path): {name for name in imported(path) if name in MODULES}
        for path in SOURCES
        if module_name(path).split(".")[0] == package
    }
    while free := [name for name, needs in imports.items() if not needs & imports.keys()]:
        for name in free:
            del imports[name]
    assert not imports, f"a circle among {sorted(imports)}"


NAMES_OF_THE_USER = {"references"}  # sections whose keys are not settings


def same_keys(one, other):
    """Whether two recipes have the same keys; a section that is off is null."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(
            same_keys(one[key], other[key]) for key in one.keys() - NAMES_OF_THE_USER
        )
    return True


RECIPES = ROOT / "launch" / "recipes"
OF_ONE_SIZE = {"distill-64-gpus.yaml", "stages.yaml"}  # of many GPUs; a list of commands
SHARED = sorted({path.name for path in (RECIPES / "ppminilm-6l-768h").glob("*.yaml")} - OF_ONE_SIZE)


COPIES = sorted(
    (path.parent.name, path.name)
    for path in RECIPES.glob("*/*.yaml")
    if path.name in SHARED and path.parent.name != "ppminilm-6l-768h"
)


@pytest.mark.parametrize(("folder", "name"), COPIES)
def test_other_recipes_differ_from_the_published_one_only_in_values(folder, name):
    published, other = (
        yaml.safe_load((RECIPES / place / name).read_text(encoding="utf-8"))
        for place in ("ppminilm-6l-768h", folder)
    )
    assert same_keys(published, other)
