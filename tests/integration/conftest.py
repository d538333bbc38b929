"""Shards, a teacher, and uninterrupted runs to hold the others against."""

import pytest

from tests.integration.ranks import Run
from tests.pretrain import tiny


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    """A folder with `shards` and `teacher`."""
    return tiny.make_root(tmp_path_factory.mktemp("ranks"))


@pytest.fixture(scope="session")
def straight(root):
    """Uninterrupted runs of 14 steps on 1 and 2 ranks: nearly three epochs of 5, each of 3 shards
    and 2 windows."""
    return {ranks: Run(root, f"straight-{ranks}").finish(ranks) for ranks in (1, 2)}
