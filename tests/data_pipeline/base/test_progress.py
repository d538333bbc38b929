from data_pipeline.base.progress import Progress


def test_a_log_gets_plain_lines_with_rate_and_note(capsys):
    with Progress("train", total=10, unit="step", interval=0) as progress:
        progress.add(4, loss=0.5)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("train: 4 of 10 step")
    assert "s left" in lines[0] and lines[0].endswith("loss 0.5")


def test_a_resumed_count_starts_where_it_was(capsys):
    with Progress("train", total=10, unit="step", start=8, interval=0) as progress:
        progress.add(1)
    assert "train: 9 of 10" in capsys.readouterr().err


def test_quiet_says_nothing(capsys):
    with Progress("train", total=10, unit="step", interval=0, quiet=True) as progress:
        progress.add(1)
    assert capsys.readouterr().err == ""
