"""One set of tiny shards and one tiny teacher for all tests here."""

import pytest

from tests.pretrain import tiny


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory):
    """A folder with `shards` and `teacher`."""
    root = tmp_path_factory.mktemp("tiny")
    tiny.make_shards(root / "shards")
    tiny.make_teacher(root / "teacher")
    return root
