"""What a figure was measured on is said with it."""

import json
from importlib.metadata import PackageNotFoundError, version

import pytest

from data_pipeline.base.machine import machine


def test_it_names_the_hardware_and_the_versions():
    found = machine("numpy")
    assert found["cpu"]
    assert found["cores"] >= 1
    assert found["memory_gb"] > 0
    assert found["numpy"] == version("numpy")
    assert json.loads(json.dumps(found)) == found


def test_a_library_that_is_not_there_is_an_error():
    with pytest.raises(PackageNotFoundError):
        machine("no-such-library")
