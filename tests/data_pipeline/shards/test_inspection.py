import numpy as np
import pytest

from data_pipeline.base.errors import UserError
from data_pipeline.building.build import build
from data_pipeline.shards import inspection
from data_pipeline.text import vocab


def test_statistics_picture_and_decoded_samples(corpus, recipe, tmp_path):
    made = recipe(sources=[{"path": str(corpus)}] * 2, dedup={"near": True})
    manifest = build(made, quiet=True)
    picture = tmp_path / "lengths.png"
    found = inspection.inspect(made.output_dir, 3, 0, picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert found["samples"] == manifest.samples and len(found["decoded"]) == 3
    assert found["duplicates"]["documents_near_duplicate"] > 200
    assert 0.5 < found["bytes_per_token"] < 3
    lengths = np.repeat(np.arange(129), manifest.length_histogram)
    assert found["median_length"] == int(np.median(lengths))
    assert found["mean_length"] == pytest.approx(lengths.mean())
    for sample in found["decoded"].values():
        assert sample.startswith("[CLS]|") and sample.endswith("|[SEP]")
    again = inspection.inspect(made.output_dir, 3, 0, picture)
    assert again == found
    text = inspection.as_text(found)
    assert "duplicates left out" in text and "samples, | before each word" in text


def test_decoding_shows_words():
    tokens = ["[CLS]", "中", "国", "i", "##phone", "[SEP]"]
    ids, starts = np.arange(6), np.array([1, 1, 0, 1, 0, 1])
    assert inspection.decode(ids, starts, tokens) == "[CLS]|中国|iphone|[SEP]"


def test_a_foreign_vocabulary_is_not_decoded_with(shard_directory, tmp_path):
    folder = shard_directory(5)
    vocab.write(folder / "vocab.txt", [*vocab.SPECIAL.values(), "外"])
    with pytest.raises(UserError, match="not the vocabulary of these shards"):
        inspection.inspect(folder, 1, 0, tmp_path / "a.png")


def test_read_only_shards_are_inspected_without_a_picture(shard_directory, tmp_path, monkeypatch):
    """Root may write anywhere, so the error of a read-only disk is put in its place."""
    folder = shard_directory(5)

    def read_only(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(inspection, "draw", read_only)
    assert "is read-only" in inspection.inspect(folder, 1, 0)["picture"]
    with pytest.raises(UserError, match=r"a\.png: cannot write the picture: Read-only"):
        inspection.inspect(folder, 1, 0, tmp_path / "a.png")
