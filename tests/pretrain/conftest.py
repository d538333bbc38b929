"""One set of tiny shards and one tiny teacher for all tests here."""

import pytest

from tests.pretrain import tiny


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory):
    """A folder with `shards` and `teacher`."""
    return tiny.make_root(tmp_path_factory.mktemp("tiny"))
