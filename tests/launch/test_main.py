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


def test_the_cluster_texts_are_printed_from_a_recipe(tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("output_dir: runs/big\n")
    slurm = run(str(recipe), "--slurm", "--nnodes", "2", "--nproc_per_node", "8")
    assert slurm.returncode == 0 and "--job-name=big" in slurm.stdout
    pods = run(str(recipe), "--k8s", "--nnodes", "2", "--nproc_per_node", "8")
    assert pods.returncode == 0 and "completionMode: Indexed" in pods.stdout


@pytest.mark.ranks
def test_the_doctor_tries_the_parts_and_finds_them_working():
    result = run("doctor", "--json")
    values = json.loads(result.stdout)
    assert {check["name"] for check in values["checks"]} >= {"Fleet ranks", "ONNX Runtime INT8"}
    assert [check for check in values["checks"] if not check["ok"]] == []
    assert values["versions"]["paddlepaddle"] == "3.3.1"
