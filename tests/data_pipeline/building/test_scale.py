"""Cost that grows with the text, not with the number of pieces; bounded files and memory."""

import gzip
import resource
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from data_pipeline.base import files
from data_pipeline.building import build as build_module
from data_pipeline.building import dedup, engine, plan, steps, unpacking
from data_pipeline.building.build import build, duplicates_memory
from data_pipeline.recipe import Run
from data_pipeline.shards.provenance import read_inputs
from data_pipeline.shards.verify import verify
from data_pipeline.sources.parts import Input, Part


def reads_of_drop_lists(monkeypatch, recipe, **sections):
    """How many lists of drops a build reads, and in how many pieces and partitions."""
    counts = {"lists": 0, "pieces": 0, "partitions": 0}
    load, later = dedup.Drops.of, dedup.later_occurrences

    def counting_load(drops, piece):
        counts["lists"] += 1
        return load(drops, piece)

    def counting_later(paths, *arguments):
        counts["pieces"] = len(paths)
        counts["partitions"] += 1
        return later(paths, *arguments)

    monkeypatch.setattr(dedup.Drops, "of", counting_load)
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


def test_a_plan_takes_little_memory_besides_the_list_of_files(recipe, tmp_path):
    """A corpus may be a million small files; what is written of them is never all in memory."""
    made = recipe(sources=[{"path": str(tmp_path)}])
    names = [f"/corpus/{number // 1000:04d}/{number:08d}.txt" for number in range(100_000)]
    entries = [Input(0, name, "txt", "utf-8", 40, 40, 1 << 60) for name in names]
    parts = [Part(number, "byte", 0, 40, 40) for number in range(len(names))]
    inputs = plan.InputPlan(made, entries, parts)
    tracemalloc.start()
    begun = inputs.write("id")
    pieces = inputs.write_pieces(begun, []).pieces
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak / len(names) < 150 and pieces >= 6
    assert len(read_inputs(begun.folder / "inputs.jsonl.zst")) == len(names)


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
            spilled = len(list((folder / "read").glob("*.piece")))
            left.append((spilled, len(list((folder / "exact").glob("*.npy")))))
        return original(task)

    monkeypatch.setattr(steps, "execute", watching)
    build(made, quiet=True)
    assert left == [(spilled, 0) for spilled in range(len(left), 0, -1)]


def disk_calls(monkeypatch, made):
    """("write" or "name" or "remove", path) of what a build does with files, in order. A file or
    folder that is synced: "write"."""
    calls, sync, unlink, replace = [], files.sync, Path.unlink, Path.replace

    def named(path, target):
        calls.append(("name", str(target)))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", named)
    monkeypatch.setattr(
        Path, "unlink", lambda path, **o: (calls.append(("remove", str(path))), unlink(path, **o))
    )
    for module in (files, steps, build_module, unpacking, plan):
        monkeypatch.setattr(
            module, "sync", lambda path: (calls.append(("sync", str(path))), sync(path))
        )
    build(made, quiet=True)
    monkeypatch.undo()
    return calls


def test_a_piece_waits_for_the_disk_a_few_times_only(corpus, recipe, monkeypatch, tmp_path):
    """Each wait takes milliseconds, whatever the piece holds."""
    counts = {}
    for piece_mb in (0.2, 0.02):
        made = recipe(
            sources=[{"path": str(corpus)}],
            dedup={"near": True},
            piece_mb=piece_mb,
            output_dir=str(tmp_path / f"{piece_mb}"),
        )
        calls = [name for name, _ in disk_calls(monkeypatch, made)]
        pieces = len(list(made.output_dir.glob("shard-*")))
        counts[pieces] = (calls.count("sync"), calls.count("name"))
    (few, (few_syncs, few_names)), (many, (many_syncs, many_names)) = counts.items()
    assert many > 4 * few
    assert (many_syncs - few_syncs) / (many - few) <= 7
    assert (many_names - few_names) / (many - few) <= 5  # with the shard's move at the end


@pytest.mark.parametrize("name", ["text.txt", "text.txt.gz"])
def test_what_a_result_speaks_of_is_on_disk_before_it(news, recipe, monkeypatch, tmp_path, name):
    """Also when the power fails: then what was not synced may be lost, in any combination."""
    text = "\n\n".join(news).encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    made = recipe(sources=[{"path": str(tmp_path / name)}], dedup={"near": True}, piece_mb=0.1)
    unsynced: set[str] = set()
    seen = set()
    for call, path in disk_calls(monkeypatch, made):
        if call == "sync":
            unsynced = {one for one in unsynced if str(Path(one).parent) != path}
            continue
        step, is_result = Path(path).parent.name, path.endswith(".json")
        if call == "name":
            if is_result and step in steps.STEPS:
                assert all(one.endswith(".json") for one in unsynced), f"{path} before {unsynced}"
                seen.add(step)
            unsynced.add(path)
        elif not path.endswith(".tmp"):
            made_by = {"read": "write", "chunks": "read", "near": "near_drops"}.get(step)
            assert not [one for one in unsynced if Path(one).parent.name == made_by], path
            seen.add(f"{step} removed")
    assert seen >= {"read", "near", "near_drops", "exact", "write", "read removed", "near removed"}
    assert ("chunks removed" in seen) == name.endswith(".gz")
