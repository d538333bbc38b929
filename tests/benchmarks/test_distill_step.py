"""A small run of the step's benchmark, in one process and in two ranks."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.encoder_sizes import GROUP, UPDATE
from tests.pretrain import tiny

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "distill_step.py"


@pytest.mark.ranks
def test_ranks_share_the_batches_of_an_update(tmp_path):
    shards = tiny.make_shards(tmp_path / "shards", samples=3 * UPDATE)
    words = [sys.executable, str(SCRIPT), "--sizes", "small", "--threads", "2", "--rounds", "1"]
    words += ["--batches", str(UPDATE // GROUP), "--shards", str(shards)]
    words += ["--contenders", "ours", "ours_ranks", "--json", str(tmp_path / "step.json")]
    subprocess.run(words, check=True, timeout=300)
    written = json.loads((tmp_path / "step.json").read_text())
    (one,), (ranks,) = written["runs"]["ours"], written["runs"]["ours_ranks"]
    assert one["batches"] == UPDATE // GROUP
    assert ranks["batches"] == UPDATE // GROUP / 2
    assert ranks["seq_s"] > 0
