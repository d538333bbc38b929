"""What the two training scripts do before they train, and when there is nothing to train."""

import json
import subprocess
import sys

import pytest
import yaml

from data_pipeline.base.errors import UserError
from pretrain import entry, mlm, run
from pretrain.recipe import DistillRecipe
from tests.pretrain import tiny


@pytest.fixture
def recipe(tiny_root, tmp_path):
    """A function: the file of the tiny recipe with changes."""

    def make(**changes):
        values = tiny.distill_values(tiny_root, tmp_path / "run", **changes)
        return str(tiny.write_recipe(tmp_path / "distill.yaml", values))

    return make


@pytest.fixture
def start(monkeypatch):
    """A function that calls `entry.main`: (exit code, the recipes that were trained)."""

    def start(argv, finished=False):
        trained = []

        def train(recipe, build, finish, error):
            if error:
                raise error
            trained.append(recipe)
            return 7

        monkeypatch.setattr(entry, "train", train)
        monkeypatch.setattr("pretrain.training.finished.is_finished", lambda _: finished)
        return entry.main(DistillRecipe, "Distill.", run.build, argv), trained

    return start


def test_it_trains_by_the_recipe_and_returns_the_exit_code(recipe, start):
    code, trained = start(["--config", recipe(), "--optimizer.total_steps", "9", "--seed=3"])
    assert code == 7
    assert (trained[0].optimizer.total_steps, trained[0].seed) == (9, 3)


def test_a_finished_run_says_so_once_and_trains_no_more(recipe, start, capsys, monkeypatch):
    assert start(["--config", recipe()], finished=True) == (0, [])
    assert "this run is finished; nothing to do" in capsys.readouterr().out
    monkeypatch.setenv("PADDLE_TRAINER_ID", "1")
    assert start(["--config", recipe()], finished=True) == (0, [])
    assert capsys.readouterr().out == ""


def test_json_prints_the_newest_metrics(recipe, start, tmp_path, capsys, monkeypatch):
    path = recipe()
    record = {"step": 9, "loss/total": 0.5}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text(json.dumps(record) + "\n", encoding="utf-8")
    start(["--config", path, "--json"])
    message = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert message == {"output_dir": str(tmp_path / "run"), "exit_code": 7, "metrics": record}
    monkeypatch.setenv("PADDLE_TRAINER_ID", "1")
    start(["--config", path, "--json"])
    assert capsys.readouterr().out == ""


def test_a_finished_run_needs_neither_its_teacher_nor_its_shards(recipe, start):
    path = recipe(**{"teacher.path": "/nowhere", "data.shards": "/nowhere"})
    assert start(["--config", path], finished=True) == (0, [])


def test_all_problems_come_before_any_training(recipe, start, monkeypatch):
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "3")
    path = recipe(**{"teacher.layer": 9, "x": 1})
    with pytest.raises(UserError) as caught:
        start(["--config", path])
    message = str(caught.value)
    assert message.startswith(f"{path}: 3 problem(s)\n  x: unknown key")
    assert "4 relation group(s) of 4, which cannot be shared evenly by 3 ranks" in message
    assert "teacher.layer: 9" in message


def test_rank_0_checks_the_files_for_the_others(recipe, start, monkeypatch):
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    wrong_layer = recipe(**{"teacher.layer": 9})
    with pytest.raises(UserError, match=r"teacher\.layer: 9"):
        start(["--config", wrong_layer])
    monkeypatch.setenv("PADDLE_TRAINER_ID", "1")
    monkeypatch.setattr(
        "pretrain.check.environment_problems", lambda *_: pytest.fail("rank 0 alone checks")
    )
    assert start(["--config", wrong_layer])[0] == 7  # rank 0 is going to tell it
    with pytest.raises(UserError, match="x: unknown key"):  # what is in the recipe all ranks see
        start(["--config", recipe(x=1)])


@pytest.mark.parametrize(
    "argv", [["--config", "none.yaml"], ["--config", "{}", "stray"], ["--config", "{}", "--seed"]]
)
@pytest.mark.parametrize("script", [run, mlm])
def test_a_users_mistake_is_one_message_and_exit_code_2(recipe, script, argv, capsys):
    assert script.main([word.format(recipe()) for word in argv]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "Traceback" not in error


def test_a_recipe_of_the_other_kind_is_told_by_its_keys(recipe, capsys):
    assert mlm.main(["--config", recipe()]) == 2
    error = capsys.readouterr().err
    assert "teacher: unknown key" in error and "model_dir: missing" in error


@pytest.mark.parametrize("script", ["run.py", "mlm.py"])
def test_help_is_quick_because_nothing_heavy_is_imported(script):
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['x', '--help']\n"
        "try:\n"
        f"    runpy.run_path({str(tiny.ROOT / 'pretrain' / script)!r}, run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    print(end.code, [m for m in ('paddle', 'paddlenlp', 'h5py') if m in sys.modules])\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "--config" in result.stdout and "--key.subkey value" in result.stdout
    assert result.stdout.splitlines()[-1] == "0 []"


@pytest.mark.parametrize(
    ("name", "script", "ranks"),
    [
        ("demo/distill.yaml", run, 2),
        ("ppminilm-6l-768h/distill.yaml", run, 2),
        ("ppminilm-6l-768h/teacher.yaml", mlm, 2),
        ("teacher/teacher.yaml", mlm, 1),
    ],
)
def test_the_shipped_recipes_lack_nothing_but_files(name, script, ranks, tmp_path, monkeypatch):
    from pretrain import check

    path = tiny.ROOT / "launch" / "recipes" / name
    monkeypatch.chdir(tmp_path)
    kind = check.kind_of(path)
    read, wrong = check.read(kind, path)
    assert wrong == {}
    problems = check.problems(read, ranks)
    assert {text.split(":")[0] for text in problems} <= {"data.shards", "teacher.path"}
    message = json.loads(json.dumps(yaml.safe_load(path.read_text(encoding="utf-8"))))
    assert read.model_dump(mode="json") == message  # every key is spelt out
    assert script.main(["--config", str(path)]) == 2
