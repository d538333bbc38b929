import json
import subprocess
import sys

import pytest

from data_pipeline.__main__ import main


def test_build_inspect_verify(corpus, recipe, recipe_file, capsys):
    made = recipe(sources=[{"path": str(corpus)}])
    config, folder = str(recipe_file(made)), str(made.output_dir)
    assert main(["build", "--config", config, "--max_length", "64", "--clean.min_chars=6"]) == 0
    assert "next: python -m data_pipeline inspect" in capsys.readouterr().out
    assert main(["inspect", folder, "--samples", "2"]) == 0
    assert "lengths.png" in capsys.readouterr().out
    assert main(["verify", folder]) == 0
    assert capsys.readouterr().out == f"{folder}: no damage\n"
    (made.output_dir / "vocab.txt").unlink()
    assert main(["verify", folder]) == 1
    assert "damaged: " in capsys.readouterr().err


def test_json(corpus, recipe, recipe_file, capsys):
    made = recipe(sources=[{"path": str(corpus)}])
    assert main(["build", "--config", str(recipe_file(made)), "--json"]) == 0
    built = json.loads(capsys.readouterr().out)
    assert main(["inspect", str(made.output_dir), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fingerprint"] == built["fingerprint"]
    assert main(["verify", str(made.output_dir), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["damage"] == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--clean.min_char", "3"], "clean.min_char: unknown key; did you mean 'min_chars'?"),
        (["--max_length", "4"], "max_length: Input should be greater than or equal to 8"),
        (["--vocab", "{file: a, train: {size: 900}}"], "vocab: give either file or train"),
        (["--words.segmenter", "ltp"], "words.segmenter: Input should be 'rjieba' or 'jieba'"),
        (["--sources", "[{packaged: inews, path: a}]"], "give either path or packaged"),
        (["--sources", "[]"], "sources:"),
        (["stray"], "unexpected argument 'stray'"),
    ],
)
def test_mistakes_are_named(corpus, recipe, recipe_file, capsys, overrides, message):
    config = recipe_file(recipe(sources=[{"path": str(corpus)}]))
    assert main(["build", "--config", str(config), *overrides]) == 2
    assert message in capsys.readouterr().err


def test_help_answers_at_once():
    words = [sys.executable, "-X", "importtime", "-m", "data_pipeline", "--help"]
    result = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "build" in result.stdout
    for heavy in ("numpy", "h5py", "pydantic", "paddle", "matplotlib"):
        assert f" {heavy}\n" not in result.stderr
