"""What every benchmark's file says about where its figures are from."""

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import report


def git(folder, *words):
    """Standard output of a git command."""
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def test_the_file_says_on_what_and_when_it_was_measured(tmp_path):
    settings = {"folder": Path("y"), "torch": "/home/me/bin/python", "shards": tmp_path / "shards"}
    report.write(tmp_path / "a.json", {"x": 1.5}, settings, ("numpy",), runs=[1, 2])
    values = json.loads((tmp_path / "a.json").read_text())
    assert values["figures"] == {"x": 1.5} and values["runs"] == [1, 2]
    assert values["settings"] == {"folder": "y", "torch": "python", "shards": "shards"}
    assert set(values["machine"]) >= {"cpu", "cores", "python", "numpy"}
    age = datetime.now(UTC) - datetime.fromisoformat(values["date"])
    assert 0 <= age.total_seconds() < 60
    root = Path(__file__).parents[2]
    if (root / ".git").exists():
        assert values["commit"].startswith(git(root, "rev-parse", "HEAD").strip())


def test_uncommitted_changes_are_said(tmp_path):
    assert report.commit(tmp_path) == "unknown"
    git(tmp_path, "init", "-q")
    (tmp_path / "a.py").write_text("1")
    git(tmp_path, "add", "a.py")
    git(tmp_path, "commit", "-qm", "one")
    clean = report.commit(tmp_path)
    assert len(clean) == 40
    (tmp_path / "figures.json").write_text("{}")  # what a benchmark itself writes
    assert report.commit(tmp_path) == clean
    (tmp_path / "a.py").write_text("2")
    assert report.commit(tmp_path) == f"{clean} with changes"
