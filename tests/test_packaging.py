"""What is published: the wheel has every module and recipe, and each extra is what it says."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PACKAGES = ("data_pipeline", "pretrain", "finetune", "launch")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy: a build leaves files behind."""
    source = tmp_path_factory.mktemp("source")
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    output = tmp_path_factory.mktemp("dist")
    program = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    process = subprocess.run(
        [sys.executable, "-c", program, str(output)],
        cwd=source,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    (path,) = output.glob("*.whl")
    return path


def test_it_has_every_module_recipe_and_marker(wheel):
    expected = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for pattern in ("**/*.py", "**/*.yaml", "py.typed")
        for path in (ROOT / package).glob(pattern)
    }
    assert {f"{package}/py.typed" for package in PACKAGES} <= expected
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == expected


def test_its_commands_answer_outside_the_repository(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
        entries = archive.read(f"{wheel.name.split('-py3')[0]}.dist-info/entry_points.txt").decode()
    assert len(re.findall(r"^ppminilm-\w+ = ", entries, re.M)) == len(PACKAGES)
    for module in re.findall(r"= ([\w.]+):main$", entries, re.M):
        program = f"import sys; from {module} import main; sys.exit(main(['--help']))"
        process = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            env={"PYTHONPATH": str(tmp_path / "site"), "PATH": ""},
            capture_output=True,
            text=True,
            check=False,
        )
        assert process.returncode == 0, process.stderr
        assert process.stdout.startswith("usage: ")


def installed_by(metadata, extra: str) -> set[str]:
    """Names of the direct requirements with one extra, and with the extras that it contains."""
    names: set[str] = set()
    for line in metadata.get_all("Requires-Dist"):
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            if requirement.name == PROJECT["name"]:
                for inner in requirement.extras:
                    names |= installed_by(metadata, inner)
            else:
                names.add(requirement.name)
    return names


def test_each_extra_brings_one_build_of_paddle_at_most(wheel):
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith("/METADATA"))
        metadata = HeaderParser().parsestr(archive.read(name).decode())
    extras = set(metadata.get_all("Provides-Extra"))
    assert {"cpu", "gpu", "serve", "search", "cluster", "hf", "demo", "docs", "dev"} <= extras
    builds = {"paddlepaddle", "paddlepaddle-gpu"}
    for extra in extras:
        expected = {"cpu": {"paddlepaddle"}, "gpu": {"paddlepaddle-gpu"}}.get(extra, set())
        assert installed_by(metadata, extra) & builds == expected, extra
    assert {"fastapi", "optuna", "dask", "pytest"} <= installed_by(metadata, "dev")
    assert not {"fastapi", "optuna", "dask"} & installed_by(metadata, "cpu")
    assert metadata["License-Expression"] == "Apache-2.0"


def test_every_requirement_is_pinned():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {
        canonicalize_name(Requirement(line).name) for line in lines if not line.startswith("#")
    }
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    wanted = {canonicalize_name(Requirement(line).name) for group in groups for line in group}
    # The GPU build is not on the index that the others come from; its extra has the version.
    assert wanted - pinned == {PROJECT["name"], "paddlepaddle-gpu"}
    assert any(
        line.startswith("paddlepaddle-gpu==") for line in PROJECT["optional-dependencies"]["gpu"]
    )


def test_version_and_licence_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.gpu"])
def test_images_copy_what_is_there_and_install_extras_that_exist(name):
    text = (ROOT / "docker" / name).read_text(encoding="utf-8")
    admitted = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    copied = {word for line in re.findall(r"^COPY (.*) \S+$", text, re.M) for word in line.split()}
    assert {*PACKAGES, "pyproject.toml", "constraints.txt"} <= copied
    for word in copied:
        assert (ROOT / word).exists() and f"!{word}" in admitted, word
    (extras,) = re.findall(r'"\.\[([\w,]+)\]"', text)
    assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
    assert ("gpu" if name.endswith("gpu") else "cpu") in extras.split(",")


def test_the_workflow_runs_targets_of_the_makefile():
    workflow = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text(encoding="utf-8"))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    commands = [
        step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step
    ]
    targets = [command.removeprefix("make ") for command in commands if command[:5] == "make "]
    assert targets == ["test", "demo", "dist-check"]
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.M)


@pytest.mark.parametrize("path", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")))
def test_issue_forms_are_well_formed(path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    if path.name == "config.yml":
        assert form == {"blank_issues_enabled": False}
        return
    assert form["name"] and form["description"]
    ids = [item["id"] for item in form["body"]]
    assert len(ids) == len(set(ids)) and all(item["attributes"]["label"] for item in form["body"])
