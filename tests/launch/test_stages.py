import json
import sys

import pytest

from data_pipeline.base import recipes
from data_pipeline.base.errors import UserError
from launch import stages

APPEND = "import sys; open(sys.argv[1], 'a').write(open(sys.argv[2]).read())"


def stage_list(tmp_path, third="third"):
    """Three real commands: each appends the content of its recipe to the file it makes."""
    listed = []
    for name in ("first", "second", third):
        recipe = tmp_path / f"{name}.yaml"
        if not recipe.exists():
            recipe.write_text(f"{name}\n")
        listed.append(
            {
                "name": name,
                "about": f"the {name} one",
                "command": f'python -c "{APPEND}" {tmp_path / name} {recipe}',
                "makes": str(tmp_path / name),
            }
        )
    values = {
        "name": "demo",
        "record": str(tmp_path / "record.json"),
        "stages": listed,
        "outcome": {"report": "report.json"},
        "next": ["python -m this"],
    }
    return recipes.check(stages.StageList, values, where="test")


def executions(tmp_path):
    names = ("first", "second", "third")
    return [len((tmp_path / name).read_text().split()) for name in names]


def test_finished_stages_are_not_run_again(tmp_path, capfd):
    stages.execute(stage_list(tmp_path))
    stages.execute(stage_list(tmp_path))
    assert executions(tmp_path) == [1, 1, 1]
    assert capfd.readouterr().out.count("finished earlier") == 3


def test_a_changed_recipe_runs_its_stage_and_those_after_it(tmp_path):
    stages.execute(stage_list(tmp_path))
    (tmp_path / "second.yaml").write_text("other")
    stages.execute(stage_list(tmp_path))
    assert executions(tmp_path) == [1, 2, 2]


def test_a_removed_result_is_made_again(tmp_path):
    stages.execute(stage_list(tmp_path))
    (tmp_path / "third").unlink()
    stages.execute(stage_list(tmp_path))
    assert executions(tmp_path) == [1, 1, 1]


def test_again_redoes_one_stage(tmp_path):
    stages.execute(stage_list(tmp_path))
    stages.execute(stage_list(tmp_path), again="second")
    assert executions(tmp_path) == [1, 2, 1]
    with pytest.raises(UserError, match="the stages are first, second, third"):
        stages.execute(stage_list(tmp_path), again="fourth")


def test_after_a_failed_stage_the_record_has_those_before_it(tmp_path):
    failing = stage_list(tmp_path)
    bad = failing.stages[1].model_copy(update={"command": 'python -c "raise SystemExit(9)"'})
    failing = failing.model_copy(update={"stages": [failing.stages[0], bad, failing.stages[2]]})
    with pytest.raises(UserError, match="'second' ended with exit code 9") as caught:
        stages.execute(failing)
    assert caught.value.exit_code == 9
    assert list(json.loads((tmp_path / "record.json").read_text())) == ["first"]


def test_a_stage_that_writes_nothing_is_an_error(tmp_path):
    lazy = stage_list(tmp_path)
    idle = lazy.stages[0].model_copy(update={"command": "python -c pass"})
    with pytest.raises(UserError, match="did not write"):
        stages.execute(lazy.model_copy(update={"stages": [idle]}))


def test_the_summary_says_where_things_are_and_what_to_type(tmp_path):
    text = stages.summary(stage_list(tmp_path), stages.execute(stage_list(tmp_path)))
    assert "all 3 stages" in text and "report.json" in text and "python -m this" in text


def test_a_broken_record_is_an_error(tmp_path):
    (tmp_path / "record.json").write_text("{")
    with pytest.raises(UserError, match="unreadable"):
        stages.execute(stage_list(tmp_path))


def test_the_stage_gets_the_threads_of_its_processes(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    script = tmp_path / "env.py"
    script.write_text(
        f"import os; open({str(tmp_path / 'env')!r}, 'w').write(os.environ['OMP_NUM_THREADS'])"
    )
    stage = {"name": "e", "about": "e", "command": f"{sys.executable} {script}", "processes": 10**6}
    values = {"name": "n", "record": str(tmp_path / "r.json"), "outcome": {"a": "b"}}
    values["stages"] = [{**stage, "makes": str(tmp_path / "env")}]
    stages.execute(recipes.check(stages.StageList, values, where="test"))
    assert (tmp_path / "env").read_text() == "1"
