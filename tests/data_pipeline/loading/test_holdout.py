"""Which samples the held-out loss is measured on."""

import numpy as np
import pytest

from data_pipeline.base.errors import UserError
from data_pipeline.building.build import build
from data_pipeline.loading.holdout import holdout_batches, split
from data_pipeline.shards.format import HOLDOUT, MANIFEST, Manifest


def test_without_held_out_documents_it_is_the_end_of_the_shards(shard_directory):
    folder = shard_directory(50, 38)
    manifest = Manifest.read(folder)
    held = split(folder, manifest, 14, 4)
    assert held.trained_samples == 76 and held.numbers.tolist() == list(range(76, 88))
    assert held.directory == folder
    for samples in (0, 3):  # less than a group
        nothing = split(folder, manifest, samples, 4)
        assert nothing.trained_samples == 88 and holdout_batches(nothing, 4) == []


@pytest.fixture
def with_documents(corpus, recipe):
    """Shards of which every tenth document is held out."""
    made = recipe(sources=[{"path": str(corpus)}], holdout={"share": 0.1}, dedup={"exact": False})
    return made.output_dir, build(made, quiet=True)


def test_held_out_documents_are_measured_on_and_all_the_rest_is_trained_on(with_documents):
    folder, manifest = with_documents
    aside = Manifest.read(folder / HOLDOUT)
    held = split(folder, manifest, 64, 16)
    assert held.trained_samples == manifest.samples
    assert held.directory == folder / HOLDOUT and len(held.numbers) == 64
    # Spread over them, not only from the first source.
    assert held.numbers[0] == 0 and held.numbers[-1] > 0.9 * aside.samples
    assert len(set(held.numbers.tolist())) == 64 and aside.samples > 80
    batches = holdout_batches(held, 16)
    assert sorted(np.concatenate([b.sample_ids for b in batches])) == held.numbers.tolist()
    lengths = np.concatenate([batch.attention_mask.sum(axis=1) for batch in batches])
    assert (np.diff(lengths) >= 0).all()


def test_more_than_there_are_is_all_of_them_in_whole_groups(with_documents):
    folder, manifest = with_documents
    there = Manifest.read(folder / HOLDOUT).samples
    held = split(folder, manifest, 10**6, 16)
    assert held.numbers.tolist() == [
        i * there // len(held.numbers) for i in range(len(held.numbers))
    ]
    assert len(held.numbers) == there // 16 * 16
    assert len(split(folder, manifest, 10**6, 1).numbers) == there
    nothing = split(folder, manifest, 0, 16)
    assert len(nothing.numbers) == 0 and nothing.trained_samples == manifest.samples


def test_damaged_held_out_shards_are_not_passed_over(with_documents):
    folder, manifest = with_documents
    (folder / HOLDOUT / MANIFEST).write_text("{")
    with pytest.raises(UserError, match="not a shard manifest"):
        split(folder, manifest, 64, 16)
