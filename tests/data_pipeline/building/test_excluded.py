import json
from collections import Counter
from pathlib import Path

import pytest
import zstandard

from data_pipeline.base.errors import UserError
from data_pipeline.building.build import build
from data_pipeline.building.provenance import count_before_pieces


def excluded(folder):
    """(reason, text) of everything that a build wrote down."""
    lines = []
    for path in sorted(folder.glob("excluded/*.jsonl.zst")):
        stream = zstandard.ZstdDecompressor().stream_reader(path.read_bytes())
        lines += stream.read().decode().splitlines()
    return [(line["reason"], line["text"]) for line in map(json.loads, lines)]


def test_every_text_that_is_left_out_is_written_down(corpus, recipe, tmp_path):
    (tmp_path / "b.txt").write_text("English only, no Chinese.\n\n12\n第一句很好的话。\n")
    sections = {
        "sources": [{"path": str(corpus)}] * 2 + [{"path": str(tmp_path / "b.txt")}],
        "dedup": {"near": True},
    }
    made = recipe(**sections, exclude="all")
    counters = build(made, quiet=True).counters
    reasons = Counter(reason for reason, _ in excluded(made.output_dir))
    assert reasons["near_duplicate"] == counters["documents_near_duplicate"]
    assert reasons["exact_duplicate"] == counters["sentences_exact_duplicate"]
    assert reasons["too_short"] == counters["sentences_too_short"]
    assert reasons["not_chinese_document"] == counters["documents_not_chinese"]
    assert ("not_chinese_document", "English only, no Chinese.") in excluded(made.output_dir)
    assert counters["source_2_documents_in"] == 2
    assert counters["source_0_documents_in"] == counters["source_1_documents_in"] == 300
    log = [json.loads(line) for line in (made.output_dir / "build.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log][:1] == ["read"] and log[-1]["step"] == "write"
    sampled = recipe(**sections, exclude="sample", output_dir=str(tmp_path / "sampled"))
    assert build(sampled, quiet=True).counters == counters
    assert 0 < len(excluded(tmp_path / "sampled")) < sum(reasons.values()) / 20


def test_listings_of_a_network_file_system_do_not_decide_what_is_there(
    corpus, recipe, tmp_path, monkeypatch
):
    """They may be stale: what tasks have written is opened by number."""
    (tmp_path / "b.txt").write_text("English only, no Chinese.\n")
    sources = [{"path": str(corpus)}, {"path": str(tmp_path / "b.txt")}]
    monkeypatch.setattr(Path, "glob", lambda *_: iter(()))
    made = recipe(sources=sources, exclude="all")
    build(made, quiet=True)
    monkeypatch.undo()
    assert ("not_chinese_document", "English only, no Chinese.") in excluded(made.output_dir)


def test_a_list_that_is_missing_is_an_error(corpus, recipe, monkeypatch):
    made = recipe(sources=[{"path": str(corpus)}], exclude="all")
    monkeypatch.setattr("data_pipeline.building.build.provenance.count_before_pieces", remove_first)
    with pytest.raises(UserError, match=r"No such file.*read-00000\.jsonl\.zst"):
        build(made, quiet=True)


def remove_first(plan, read, original=count_before_pieces):
    """What the build calls between its steps, and a list is lost."""
    original(plan, read)
    (plan.folder / plan.id / "excluded" / "read-00000.jsonl.zst").unlink()


def test_documents_that_the_weights_leave_out_are_written_down(corpus, recipe):
    sources = [{"path": str(corpus / "0"), "weight": 3}, {"path": str(corpus / "1"), "weight": 1}]
    made = recipe(sources=sources, exclude="all")
    counters = build(made, quiet=True).counters
    reasons = Counter(reason for reason, _ in excluded(made.output_dir))
    assert reasons["left_out_by_weights"] == counters["documents_left_out_by_weights"] > 50
