"""Cost that grows with the text, not with the number of pieces; bounded files and memory."""

import resource
import subprocess
import sys

import numpy as np
import pytest

from data_pipeline.building import dedup, engine, steps
from data_pipeline.building.build import build, duplicates_memory
from data_pipeline.recipe import Run
from data_pipeline.shards.verify import verify


def reads_of_drop_lists(monkeypatch, recipe, **sections):
    """How many lists of drops a build reads, and in how many pieces and partitions."""
    counts = {"lists": 0, "pieces": 0, "partitions": 0}
    load, later = np.load, dedup.later_occurrences

    def counting_load(path, *arguments, **options):
        counts["lists"] += 1
        return load(path, *arguments, **options)

    def counting_later(paths, *arguments):
        counts["pieces"] = len(paths)
        counts["partitions"] += 1
        return later(paths, *arguments)

    monkeypatch.setattr(np, "load", counting_load)
    monkeypatch.setattr(dedup, "later_occurrences", counting_later)
    build(recipe(**sections), quiet=True)
    monkeypatch.undo()
    return counts


def test_each_piece_reads_its_own_drops_only(corpus, recipe, tmp_path, monkeypatch):
    """Four times the pieces: about four times as many reads, where it was sixteen and more."""
    counts = [
        reads_of_drop_lists(
            monkeypatch,
            recipe,
            sources=[{"path": str(corpus)}],
            dedup={"near": True},
            piece_mb=piece_mb,
            output_dir=str(tmp_path / f"{piece_mb}"),
        )
        for piece_mb in (0.2, 0.05)
    ]
    assert counts[1]["pieces"] >= 3 * counts[0]["pieces"]
    growth = counts[1]["pieces"] / counts[0]["pieces"]
    assert counts[1]["lists"] <= 1.2 * growth * counts[0]["lists"]


def test_dozens_of_pieces_and_partitions_with_few_file_descriptors(
    corpus, recipe, recipe_file, tmp_path
):
    made = recipe(
        sources=[{"path": str(corpus)}],
        dedup={"near": True},
        piece_mb=0.01,
        run={"memory_mb": 1, "workers": 1},
    )
    result = subprocess.run(
        [sys.executable, "-m", "data_pipeline", "build", "--config", str(recipe_file(made))],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert len(list(made.output_dir.glob("shard-*"))) > 60
    assert verify(made.output_dir, quiet=True) == []


@pytest.mark.parametrize("count", [1, 4])
def test_memory_comes_from_the_machine(monkeypatch, count):
    monkeypatch.setattr(engine, "memory_bytes", lambda: 64 << 30)
    with engine.start(Run(workers=count)) as workers:
        assert workers.memory_bytes == (64 << 30) // count
        assert duplicates_memory(Run(), workers.memory_bytes) == (32 << 30) // count
    assert duplicates_memory(Run(memory_mb=100), 1 << 30) == 100 << 20


def test_spilled_text_and_records_go_as_pieces_finish(corpus, recipe, monkeypatch):
    made = recipe(sources=[{"path": str(corpus)}], dedup={"near": True})
    left = []
    original = steps.execute

    def watching(task):
        if task.step == "write":
            folder = made.output_dir / ".build" / task.build_id
            spilled = len(list((folder / "read").glob("*.txt.zst")))
            records = [*(folder / "read").glob("*.exact"), *(folder / "read").glob("*.near")]
            left.append((spilled, len(records), len(list((folder / "exact").glob("*.npy")))))
        return original(task)

    monkeypatch.setattr(steps, "execute", watching)
    build(made, quiet=True)
    assert [spilled for spilled, _, _ in left] == list(range(len(left), 0, -1))
    assert {tuple(rest) for _, *rest in left} == {(0, 0)}
