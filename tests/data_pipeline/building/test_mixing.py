"""How much of each source is in the shards, and where each sample comes from."""

import gzip
import json
from collections import Counter

import numpy as np
import pytest

from data_pipeline.base.errors import UserError
from data_pipeline.building import mixing
from data_pipeline.building.build import build
from data_pipeline.shards import inspection
from data_pipeline.shards.format import ShardReader
from data_pipeline.shards.provenance import INPUTS, read_inputs
from data_pipeline.shards.verify import verify
from data_pipeline.sources.settings import CorpusSource


@pytest.fixture
def two_sources(news, tmp_path):
    """200 news in one file, 60 others in two."""
    groups = {"large/a": news[:200], "small/a": news[200:230], "small/b": news[230:260]}
    for name, texts in groups.items():
        path = tmp_path / f"{name}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    return [{"path": str(tmp_path / name)} for name in ("large", "small")]


def with_mixing(sources, *settings):
    return [{**source, **more} for source, more in zip(sources, settings, strict=True)]


def documents_of(folder) -> Counter:
    """In how many shards each document is, by (source, file name, number)."""
    reader = ShardReader(folder)
    inputs = read_inputs(folder / INPUTS)
    found = Counter()
    start = 0
    for shard in reader.manifest.shards:
        origin = reader.provenance(start, start + shard.samples)
        rows = zip(origin.source.tolist(), origin.input, origin.document.tolist(), strict=True)
        found.update({(s, inputs[i][0][-7:], d) for s, i, d in rows})
        start += shard.samples
    return found


def test_every_sample_names_its_document(two_sources, news, recipe, vocab_file):
    """The text of a sample is found in the document that its provenance names."""
    made = recipe(sources=two_sources, piece_mb=0.05, clean={"simplify": False})
    manifest = build(made, quiet=True)
    assert len(manifest.shards) > 5
    inputs = read_inputs(made.output_dir / INPUTS)
    starts = {"large/a.jsonl": 0, "small/a.jsonl": 200, "small/b.jsonl": 230}
    values = inspection.inspect(made.output_dir, 150, 0, made.output_dir / "a.png")
    assert len(values["provenance"]) == 150
    for number, place in values["provenance"].items():
        assert place["file"] in {row[0] for row in inputs}
        name = "/".join(place["file"].split("/")[-2:])
        assert place["source"] == (0 if name.startswith("large") else 1)
        text = news[starts[name] + place["document"]].lower()
        words = values["decoded"][number].removeprefix("[CLS]|").removesuffix("|[SEP]").split("|")
        han = [w for w in words if len(w) > 1 and all("一" <= c <= "鿿" for c in w)]
        assert all(word in text for word in han), (number, place)
    assert "document" in inspection.as_text(values)


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_documents_of_one_file_are_counted_through_its_pieces(news, recipe, tmp_path, name):
    """Whether the file is cut where it lies or unpacked first."""
    lines = [line for text in news[:100] for line in text.split("\n") if line.strip()]
    data = "\n".join(lines).encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    sources = [{"path": str(tmp_path / name), "documents": "line"}]
    made = recipe(sources=sources, piece_mb=0.04, clean={"min_chinese_share": 0})
    build(made, quiet=True)
    reader = ShardReader(made.output_dir)
    assert len(reader.manifest.shards) > 5
    numbers = reader.provenance(0, reader.manifest.samples).document.tolist()
    assert numbers == sorted(numbers)
    values = inspection.inspect(made.output_dir, 300, 0, tmp_path / "a.png")
    checked = 0
    for number, text in values["decoded"].items():
        word = text.split("|")[1]
        if all("一" <= char <= "鿿" for char in word):
            assert word in lines[numbers[number]], (number, text)
            checked += 1
    assert checked > 100


def test_repeat_puts_documents_into_further_shards(two_sources, recipe):
    made = recipe(sources=with_mixing(two_sources, {}, {"repeat": 2.5}), piece_mb=0.1)
    manifest = build(made, quiet=True)
    copies = documents_of(made.output_dir)
    assert {n for (s, *_), n in copies.items() if s == 0} == {1}
    small = [n for (s, *_), n in copies.items() if s == 1]
    assert set(small) == {2, 3} and 2.2 < np.mean(small) < 2.8
    assert manifest.counters["documents_repeated"] == sum(small) - len(small)
    assert manifest.counters["source_1_documents_out"] == sum(small)
    assert verify(made.output_dir, quiet=True) == []


def test_sample_and_limit_use_a_part_of_a_source(two_sources, recipe, tmp_path):
    sources = with_mixing(two_sources, {"sample": 0.3}, {"limit_mb": 0.05})
    made = recipe(sources=sources, piece_mb=0.1)
    counters = build(made, quiet=True).counters
    assert 0.2 < counters["source_0_documents_out"] / 200 < 0.4
    assert counters["documents_not_sampled"] + counters["source_0_documents_out"] >= 195
    found = documents_of(made.output_dir)
    small = sorted(key for key in found if key[0] == 1)
    assert [number for *_, number in small] == list(range(len(small)))  # the first ones
    assert {name for _, name, _ in small} == {"a.jsonl"} and 5 < len(small) < 25
    other = recipe(sources=sources, piece_mb=0.03, output_dir=str(tmp_path / "other"))
    build(other, quiet=True)
    chosen = [{d for s, _, d in keys if s == 0} for keys in (found, documents_of(other.output_dir))]
    assert chosen[0] == chosen[1]  # whatever the pieces


def test_weights_decide_the_parts_after_duplicates_are_removed(two_sources, recipe):
    """A source whose text is all in an earlier one has none to weigh."""
    sources = with_mixing(
        [*two_sources, two_sources[1]],
        {"weight": 1},
        {"weight": 1, "repeat": 2},
        {"weight": 1e-9},
    )
    with pytest.raises(UserError, match=r"sources\.2\.weight: no text of this source is left"):
        build(recipe(sources=sources, dedup={"exact_min_chars": 0}), quiet=True)
    made = recipe(sources=sources[:2], piece_mb=0.1)
    counters = build(made, quiet=True).counters
    large, small = (counters[f"source_{i}_characters_out"] for i in range(2))
    assert 0.8 < large / small < 1.25  # of 200 documents, some are chosen
    assert counters["documents_left_out_by_weights"] > 10
    assert set(documents_of(made.output_dir).values()) == {1, 2}


def test_weights_are_for_all_sources_or_none(two_sources, recipe):
    with pytest.raises(UserError, match="give all sources a weight, or none"):
        recipe(sources=with_mixing(two_sources, {"weight": 1}, {}))


def test_rates_by_weights():
    sources = tuple(CorpusSource(path="a", weight=w, repeat=r) for w, r in ((3, 1), (1, 4)))
    rates = mixing.weighted(sources, [600.0, 100.0])
    assert rates == [1.0, 2.0]  # 600 : 200 = 3 : 1, all of the first
    rates = mixing.weighted(sources, [6000.0, 100.0])
    assert rates == [0.2, 4.0]  # 1200 : 400, the second as often as it may
    for rate, expected in ((0.25, 0.25), (1.0, 1.0), (2.75, 0.75)):
        document_rates = np.full(2000, rate)
        shares = [mixing.in_copy(document_rates, k, 0).mean() for k in range(4)]
        assert shares[: int(rate)] == [1.0] * int(rate)
        assert abs(sum(shares) - rate) < 0.05 and abs(expected - rate % 1) in (0.0, 1.0)
    assert mixing.copies(np.array([0.2, 2.75])) == 3 and mixing.copies(np.zeros(0)) == 1


def test_any_number_of_workers_gives_the_same_mix(two_sources, recipe, tmp_path):
    sources = with_mixing(two_sources, {"weight": 1}, {"weight": 2, "repeat": 3})
    sections = {"sources": sources, "piece_mb": 0.05, "holdout": {"share": 0.1}}
    made = [
        build(recipe(output_dir=str(tmp_path / f"{n}"), run={"workers": n}, **sections), quiet=True)
        for n in (1, 2)
    ]
    assert made[0].fingerprint == made[1].fingerprint and made[0].counters == made[1].counters
    held, train = (set(documents_of(tmp_path / "1" / part)) for part in ("holdout", ""))
    assert held and not held & train
