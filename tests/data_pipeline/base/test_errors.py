import pytest

from data_pipeline.base.errors import UserError, command


def test_a_users_mistake_is_one_message_and_an_exit_code(capsys):
    @command
    def main():
        raise UserError("no such folder: x; give one that is there", exit_code=7)

    assert main() == 7
    assert capsys.readouterr().err == "error: no such folder: x; give one that is there\n"


def test_an_interrupt_says_how_to_go_on(capsys):
    @command
    def main():
        raise KeyboardInterrupt

    assert main() == 130
    assert "run the same command again" in capsys.readouterr().err


def test_a_fault_of_ours_keeps_its_trace():
    @command
    def main():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        main()


def test_none_is_success():
    assert command(lambda: None)() == 0
