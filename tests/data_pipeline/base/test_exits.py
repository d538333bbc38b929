import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.base import exits
from data_pipeline.base.errors import UserError, command
from data_pipeline.base.exits import RankExit, exit_of_node


@pytest.fixture
def directory(tmp_path, monkeypatch):
    monkeypatch.setenv(exits.DIRECTORY_VARIABLE, str(tmp_path))
    return tmp_path


def test_ranks_tell_how_they_end(directory, monkeypatch):
    for rank, code, message in ((0, 0, ""), (3, 2, "output_dir: 磁盘已满")):
        monkeypatch.setenv("PADDLE_TRAINER_ID", str(rank))
        exits.record(code, message)
    assert exits.recorded(directory) == [RankExit(0), RankExit(2, "output_dir: 磁盘已满")]


def test_a_rank_that_was_killed_while_it_wrote_has_told_nothing(directory):
    (directory / "rank-0.json").write_text('{"code": 7')
    assert exits.recorded(directory) == []


def test_without_a_supervisor_nothing_is_written(monkeypatch):
    monkeypatch.delenv(exits.DIRECTORY_VARIABLE, raising=False)
    exits.record(2)


def test_a_directory_that_is_gone_is_not_an_error(monkeypatch, tmp_path):
    monkeypatch.setenv(exits.DIRECTORY_VARIABLE, str(tmp_path / "gone"))
    exits.record(2)


def test_a_command_records_its_code_and_its_message(directory):
    @command
    def fails():
        raise UserError("wrong", exit_code=76)

    assert fails() == 76
    assert exits.recorded(directory) == [RankExit(76, "wrong")]

    @command
    def succeeds():
        return None

    assert succeeds() == 0
    assert exits.recorded(directory) == [RankExit(0)]


@given(st.integers(-64, 255), st.lists(st.builds(RankExit, st.integers(0, 255)), max_size=5))
def test_the_node_ends_as_the_rank_that_knows(launcher_code, ranks):
    end = exit_of_node(launcher_code, ranks)
    final = [code for code in exits.FINAL if code in {rank.code for rank in ranks}]
    assert end.code == (final[0] if final else launcher_code % 256)


def test_a_users_error_outweighs_a_stop_and_a_killed_rank():
    ranks = [RankExit(75), RankExit(2, "wrong"), RankExit(0)]
    assert exit_of_node(247, ranks) == RankExit(2, "wrong")
    assert exit_of_node(-9, []) == RankExit(247)
