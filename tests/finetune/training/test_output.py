"""A stage's directory is whole or not there, and is made anew only when something changed."""

import pytest

from data_pipeline.base.errors import UserError
from data_pipeline.base.recipes import Recipe
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


def test_an_input_without_a_model_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: no model there"):
        make(tmp_path, tmp_path / "empty", write)
