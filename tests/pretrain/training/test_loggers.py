"""Loggers get every record once, also those from before a resume."""

import sys
from types import SimpleNamespace

import pytest
import yaml
from pydantic import ValidationError
from visualdl import LogReader

from data_pipeline.base.errors import UserError
from pretrain.training.loggers import LOGGERS, hyper_parameters, open_loggers
from pretrain.training.metrics import RecordWriter
from pretrain.training.settings import Monitor

OPENED = []


class Recording:
    def __init__(self, output_dir, records, recipe):
        self.written = [("open", [record["step"] for record in records], recipe)]
        OPENED.append(self.written)

    def write(self, step, numbers):
        self.written.append((step, numbers))

    def close(self):
        self.written.append("closed")


def test_a_logger_of_the_users_own_is_named_by_module_and_function(tmp_path):
    name = f"{__name__}:Recording"
    assert Monitor(loggers=(name,)).loggers == (name,)
    OPENED.clear()
    for first in (1, 3):
        writer = RecordWriter(tmp_path, first - 1, 4, (name,), {"seed": 1})
        for step in (first, first + 1):
            writer.write({"step": step, "loss/total": 0.5})
        writer.close()
    assert OPENED == [
        [("open", [], {"seed": 1}), (1, {"loss/total": 0.5}), (2, {"loss/total": 0.5}), "closed"],
        [("open", [1, 2], {"seed": 1}), (3, {"loss/total": 0.5}), (4, {"loss/total": 0.5}),
         "closed"],
    ]  # fmt: skip


def test_an_unknown_logger_is_named_with_the_known_ones():
    with pytest.raises(ValidationError, match="'board' is none of visualdl, tensorboard, wandb"):
        Monitor(loggers=("board",))


@pytest.mark.parametrize(("name", "module"), [("tensorboard", "tensorboardX"), ("wandb", "wandb")])
def test_a_logger_that_is_not_installed_says_how_to_install_it(tmp_path, monkeypatch, name, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=f"{name} needs the package {module}: pip install {module}"):
        open_loggers((name,), tmp_path, [], {})


def test_visualdl_has_the_recipe_and_its_values(tmp_path):
    recipe = {"seed": 3, "optimizer": {"learning_rate": 0.5, "sharded": False}, "data": {"x": None}}
    for _ in range(2):  # a resumed run opens it again
        (logger,) = open_loggers(("visualdl",), tmp_path, [{"step": 1, "loss/total": 0.5}], recipe)
        logger.write(2, {"loss/total": 0.25})
        logger.close()
    (file,) = (tmp_path / "vdl").iterdir()
    reader = LogReader(file_path=str(file))
    (text,) = reader.get_data("text", "recipe")
    assert yaml.safe_load(text.text.encoded_text_string) == recipe
    values = hyper_parameters(recipe)
    assert values == {
        "seed": 3,
        "optimizer/learning_rate": 0.5,
        "optimizer/sharded": "False",
        "data/x": "None",
    }
    assert "hyper_parameters" in reader.get_tags()


def test_tensorboard_draws_earlier_records_anew(tmp_path, monkeypatch):
    scalars = []
    writer = SimpleNamespace(add_scalar=lambda *point: scalars.append(point), close=lambda: None)
    monkeypatch.setitem(
        sys.modules, "tensorboardX", SimpleNamespace(SummaryWriter=lambda folder: writer)
    )
    (logger,) = open_loggers(("tensorboard",), tmp_path, [{"step": 1, "a": 0.5}], {})
    logger.write(2, {"a": 0.25})
    assert scalars == [("a", 0.5, 1), ("a", 0.25, 2)]


def test_weights_and_biases_goes_on_with_the_same_run(tmp_path, monkeypatch):
    started, logged = [], []
    run = SimpleNamespace(log=lambda numbers, step: logged.append((step, numbers)))
    monkeypatch.setitem(
        sys.modules, "wandb", SimpleNamespace(init=lambda **how: started.append(how) or run)
    )
    for _ in range(2):
        (logger,) = open_loggers(("wandb",), tmp_path / "run", [{"step": 1, "a": 0.5}], {"seed": 1})
        logger.write(2, {"a": 0.25})
    assert started[0]["id"] == started[1]["id"] and started[0]["resume"] == "allow"
    assert started[0]["config"] == {"seed": 1}
    assert logged == [(2, {"a": 0.25})] * 2  # it has the earlier ones itself
    assert set(LOGGERS) == {"visualdl", "tensorboard", "wandb"}
