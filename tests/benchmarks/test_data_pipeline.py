"""The arithmetic of the benchmark, and the text that it makes."""

import importlib.util
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def benchmark():
    """It has the name of the package that it measures, and changes the search path as a script."""
    path = Path(__file__).parents[2] / "benchmarks" / "data_pipeline.py"
    spec = importlib.util.spec_from_file_location("benchmark_data_pipeline", path)
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


RAW = (
    "text_to_shards_mb_s", "peer_mb_s", "two_workers_mb_s", "two_copies_mb_s", "loader_seq_s",
    "bytes_per_token", "rss_50mb", "rss_1gb", "peak_mb_one_file", "peak_mb_one_gz", "near_mb_s",
    "jieba_mb_s", "rjieba_mb_s", "cpu_s_few_pieces", "cpu_s_many_pieces",
)  # fmt: skip


def test_a_ratio_is_of_the_numbers_of_one_repeat(benchmark, capsys):
    repeats = {name: [2.0] for name in RAW}
    repeats |= {"text_to_shards_mb_s": [4.0, 6.0, 9.0], "peer_mb_s": [2.0, 1.0, 3.0]}
    repeats |= {"cpu_s_few_pieces": [10.0], "cpu_s_many_pieces": [12.0]}
    figures = benchmark.figures_of(repeats)
    assert figures["ratio"] == [2.0, 6.0, 3.0]
    assert figures["cost_growth_16x_pieces"] == [1.2]
    assert set(figures) == {name for name, _, _ in benchmark.FIGURES}
    low_high = {name: [min(values), max(values)] for name, values in figures.items()}
    benchmark.show({name: values[0] for name, values in figures.items()}, low_high)
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["ratio", "2.000", "2.000", "to", "6.000", "at", "least", "10"]


def test_a_run_that_is_interrupted_has_what_it_measured(benchmark, capsys):
    def numbers():
        yield "text_to_shards_mb_s", 6.0
        yield "peer_mb_s", 2.0
        yield "text_to_shards_mb_s", 8.0
        raise KeyboardInterrupt

    repeats, is_complete = benchmark.collected(numbers())
    assert not is_complete and "interrupted" in capsys.readouterr().err
    assert repeats == {"text_to_shards_mb_s": [6.0, 8.0], "peer_mb_s": [2.0]}
    figures = benchmark.figures_of(repeats)
    assert figures == {"text_to_shards_mb_s": [6.0, 8.0], "peer_mb_s": [2.0], "ratio": [3.0]}
    benchmark.show({name: 1.0 for name in figures}, {name: [1.0, 1.0] for name in figures})
    assert capsys.readouterr().out.count("not measured") == len(benchmark.FIGURES) - 3


def test_generated_text_has_the_size_asked_for_and_hardly_a_duplicate(benchmark, tmp_path):
    documents = [f"第{i}篇里有一句话，它说的是{i * 7919}，还有第{i + 1}种。" for i in range(2000)]
    size = benchmark.write_generated(tmp_path, documents, 0.5)
    lines = [line for path in tmp_path.glob("*.txt") for line in path.read_text().split("\n")]
    assert 0.5 <= size < 0.6 and sum(len(line.encode()) + 1 for line in lines) >= 5e5
    full = [line for line in lines if line]
    assert len(set(full)) > 0.99 * len(full)
