"""Input that no stage can use ends in one sentence, not in a stack trace."""

import json
import shutil
from pathlib import Path

import pytest

from data_pipeline.base.errors import UserError
from finetune import stages
from finetune.__main__ import main
from finetune.compress import check_report_dir
from finetune.recipes import CompressRecipe, SearchRecipe, TextInRecipe
from finetune.tasks import open_task
from finetune.tasks.files import records
from finetune.tasks.settings import TaskSettings
from finetune.training.files import check_length, read_labels, read_result
from finetune.training.kinds import kind_of
from finetune.training.output import make_once, read_record
from finetune.training.search import search
from tests.finetune.training.test_output import Settings

NESTED = "[" * 100_000  # deeper than Python's JSON reader goes


def copied(source: Path, target: Path, name: str, content: str) -> Path:
    """A copy of a directory with one file replaced."""
    shutil.copytree(source, target)
    (target / name).write_text(content)
    return target


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (NESTED, "not JSON: maximum recursion"),
        ('{"text": ' + "9" * 5000 + "}", "not JSON: Exceeds the limit"),
        (r'{"text": "\ud800"}', "half of a surrogate pair"),
        (r'{"text": "a", "label": ["\udfff"]}', "half of a surrogate pair"),
    ],
)
def test_lines_that_python_cannot_read_or_write_are_placed(line, message, tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "\\ud83d\\ude00"}\n' + line + "\n")  # the first is whole
    with pytest.raises(UserError, match=rf"t\.jsonl, line 2: {message}"):
        list(records(path))


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("csl", {"abst": "天", "keyword": 2, "label": "1"}),
        ("csl", {"abst": "天", "keyword": [2], "label": "1"}),
        ("cluewsc2020", {"target": 3, "text": "天", "label": "true"}),
        ("cluewsc2020", {"target": {"span1_index": "x", "span1_text": "a", "span2_index": 0,
                                    "span2_text": "天"}, "text": "天", "label": "true"}),
    ],
)  # fmt: skip
def test_fields_of_another_type_are_placed(name, record, tmp_path):
    (tmp_path / "train.json").write_text(json.dumps(record) + "\n")
    with pytest.raises(UserError, match=r"train\.json, (line|record) 1: a field is not of"):
        open_task(TaskSettings(name=name, directory=tmp_path)).split("train")


def test_a_function_that_gives_no_task_is_named():
    with pytest.raises(UserError, match=r"builtins:dict returned dict, not a finetune\.tasks"):
        open_task(TaskSettings(name="builtins:dict"))


@pytest.mark.parametrize("read", [read_labels, read_result, read_record])
def test_small_files_nested_too_deep_are_named(read, tmp_path):
    for name in ("labels.json", "result.json", "stage.json", "config.json"):
        (tmp_path / name).write_text(NESTED)
    with pytest.raises(UserError, match=r"(labels|result|stage)\.json: "):
        read(tmp_path)
    (tmp_path / "labels.json").unlink()
    with pytest.raises(UserError, match=r"labels\.json: missing"):
        read_labels(tmp_path)


def test_positions_that_are_no_number_are_named(encoder, tmp_path):
    config = json.loads((encoder / "config.json").read_text()) | {"max_position_embeddings": "x"}
    damaged = copied(encoder, tmp_path / "e", "config.json", json.dumps(config))
    with pytest.raises(UserError, match=r"config\.json: max_position_embeddings 'x' is not a"):
        check_length(damaged, 16)


def test_without_a_problem_type_a_classifier_gives_one_label_a_text():
    """As transformers writes the configuration of a model that was not trained by it."""
    config = {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "a", "1": "b"}}
    assert kind_of(config) == "classification"


@pytest.mark.parametrize("content", ["", "{}"])
def test_a_graph_that_is_none_is_named(content, onnx_dir, tmp_path):
    damaged = copied(onnx_dir, tmp_path / "m", "model.onnx", content)
    with pytest.raises(UserError, match=r"model\.onnx: "):
        stages.text_in(TextInRecipe(output_dir=tmp_path / "out", model=damaged))


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (".", r"\.: exists and was not made by this command"),
        ("file", "file: exists and was not made by this command"),
        ("a\0b", r"output_dir: 'a\\x00b': no name of a directory"),
        ("loop", "output_dir: 'loop': no name of a directory"),
        ("/", "output_dir: / is the root"),
    ],
)
def test_places_where_nothing_can_be_written(place, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("years of work")
    Path("loop").symlink_to("loop")
    with pytest.raises(UserError, match=message):
        make_once("try", Path(place), Settings(), [], pytest.fail)
    assert Path("file").read_text() == "years of work"


def test_the_folder_where_the_command_is_started_may_be_the_output(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    make_once("try", Path(), Settings(), [], lambda made: (made / "product").write_text("done"))
    assert (tmp_path / "empty" / "product").read_text() == "done"
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_a_report_dir_that_is_no_name(task):
    recipe = CompressRecipe(output_dir="o", report_dir="a\0b", student="s", task=task)
    with pytest.raises(UserError, match=r"report_dir: .* no name of a directory"):
        check_report_dir(recipe)


def test_a_file_in_place_of_a_search(encoder, task, tmp_path):
    (tmp_path / "file").write_text("years of work")
    recipe = SearchRecipe(output_dir=tmp_path / "file", encoder=encoder, task=task)
    with pytest.raises(UserError, match=r"output_dir: .*file: cannot write: File exists"):
        search(recipe)


def test_a_search_leaves_a_folder_of_others_alone(encoder, task, tmp_path):
    (tmp_path / "mine" / "best").mkdir(parents=True)
    (tmp_path / "mine" / "best" / "thesis.txt").write_text("years of work")
    recipe = SearchRecipe(output_dir=tmp_path / "mine", encoder=encoder, task=task)
    with pytest.raises(UserError, match="mine: exists and was not made by this command"):
        search(recipe)
    assert (tmp_path / "mine" / "best" / "thesis.txt").exists()


@pytest.mark.parametrize("command", ["predict", "embed"])
@pytest.mark.parametrize(
    ("output", "message"),
    [(".", "is a directory; name a file"), ("file/x.npy", "file/x.npy: cannot write")],
)
def test_an_output_is_refused_before_the_work(command, output, message, tmp_path, monkeypatch,
                                              capsys):  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    Path("model").mkdir()
    assert main([command, "model", "今天", "--output", output]) == 2
    assert message in capsys.readouterr().err


def test_arguments_that_are_not_utf_8_are_named(onnx_dir, capsys):
    assert main(["predict", str(onnx_dir), "今", "\udcff"]) == 2
    assert "text 2 of the command line is not UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["serve", "text_in"])
def test_overrides_that_are_no_yaml_are_named(command, tmp_path, capsys):
    assert main([command, str(tmp_path), "--port", "["]) == 2
    assert "error: --port: not valid YAML" in capsys.readouterr().err
