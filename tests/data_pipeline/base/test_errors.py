import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from data_pipeline.base.errors import EXTRAS, UserError, command


def test_a_users_mistake_is_one_message_and_an_exit_code(capsys):
    @command
    def main():
        raise UserError("no such folder: x; give one that is there", exit_code=7)

    assert main() == 7
    assert capsys.readouterr().err == "error: no such folder: x; give one that is there\n"


PRESSED_TWICE = """
import os, signal, sys
from data_pipeline.base.errors import command

signal.signal(signal.SIGINT, signal.default_int_handler)  # where tests run in the background

class Late:
    def __del__(self):  # when Python has removed its own handlers
        os.kill(os.getpid(), signal.SIGINT)

late = Late()

@command
def main():
    signal.raise_signal(signal.SIGINT)

code = main()
if sys.argv[1] == "soon":
    signal.raise_signal(signal.SIGINT)
sys.exit(code)
"""


@pytest.mark.parametrize("second", ["soon", "late"])
def test_an_interrupt_says_how_to_go_on_and_a_second_one_changes_nothing(second):
    call = [sys.executable, "-c", PRESSED_TWICE, second]
    ended = subprocess.run(call, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 130
    assert ended.stderr == "interrupted; run the same command again to continue\n"


def test_a_fault_of_ours_keeps_its_trace():
    @command
    def main():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        main()


def test_a_library_of_an_extra_is_named_with_the_extra(monkeypatch, capsys):
    @command
    def main(module):
        importlib.import_module(module)

    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main("optuna") == 2
    assert capsys.readouterr().err == (
        "error: optuna is not installed: pip install 'ppminilm-fleet[search]'\n"
    )
    with pytest.raises(ModuleNotFoundError):
        main("no_library_of_ours")


def test_the_extras_named_are_those_of_the_project():
    path = Path(__file__).parents[3] / "pyproject.toml"
    extras = tomllib.loads(path.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for module, names in EXTRAS.items():
        for name in names:
            assert any(line.startswith(module.replace("_", "-")) for line in extras[name]), (
                module,
                name,
            )


def test_none_is_success():
    assert command(lambda: None)() == 0
