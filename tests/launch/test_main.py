import json
import subprocess
import sys

import pytest

HEAVY = ("paddle", "paddlenlp", "onnxruntime", "matplotlib", "sklearn", "visualdl")


def run(*words):
    return subprocess.run(
        [sys.executable, "-m", "launch", *words], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("package", ["launch", "data_pipeline", "pretrain", "finetune"])
def test_the_commands_import_nothing_heavy(package):
    code = f"import sys, {package}.__main__; print([m for m in {HEAVY!r} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("words", [(), ("doctor",), ("stages",)])
def test_help_says_how_to_use_it(words):
    result = run(*words, "--help")
    assert result.returncode == 0 and result.stdout.startswith("usage: python -m launch")


def test_a_missing_recipe_is_a_message_not_a_trace(tmp_path):
    result = run(str(tmp_path / "none.yaml"))
    assert result.returncode == 2
    assert "cannot read the recipe" in result.stderr and "Traceback" not in result.stderr


def test_a_recipe_without_a_place_for_the_run_is_said(tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("seed: 1\n")
    result = run(str(recipe))
    assert result.returncode == 2 and "output_dir: missing" in result.stderr


@pytest.fixture
def bare_recipe(tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("output_dir: runs/Big_run\n")
    return str(recipe)


def test_nothing_is_printed_for_a_cluster_before_the_checks_pass(bare_recipe):
    result = run(bare_recipe, "--slurm", "--nnodes", "2", "--nproc_per_node", "8")
    assert result.returncode == 2 and result.stdout == ""
    assert "data: missing" in result.stderr and "--unchecked" in result.stderr


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("--slurm", "#SBATCH --job-name=big-run"),
        ("--k8s", "completionMode: Indexed"),
        ("--paddlejob", "kind: PaddleJob"),
    ],
)
def test_the_cluster_texts_are_printed_from_a_recipe(bare_recipe, flag, expected):
    result = run(bare_recipe, flag, "--unchecked", "--nnodes", "2", "--nproc_per_node", "8")
    assert result.returncode == 0 and expected in result.stdout
    assert "warning: data: missing" in result.stderr


def test_cluster_options_out_of_their_bounds_are_named(bare_recipe):
    result = run(bare_recipe, "--k8s", "--unchecked", "--volume", "data", "--hours", "0")
    assert result.returncode == 2
    assert "hours: Input should be greater than or equal to 1" in result.stderr


def test_several_nodes_need_a_master(bare_recipe):
    result = run(bare_recipe, "--nnodes", "2")
    assert result.returncode == 2
    assert "--master: several nodes need host:port of node 0" in result.stderr


@pytest.mark.ranks
def test_the_doctor_tries_the_parts_and_finds_them_working():
    result = run("doctor", "--json")
    values = json.loads(result.stdout)
    assert {check["name"] for check in values["checks"]} >= {"Fleet ranks", "ONNX Runtime INT8"}
    assert [check for check in values["checks"] if not check["ok"]] == []
    assert values["versions"]["paddlepaddle"] == "3.3.1"
