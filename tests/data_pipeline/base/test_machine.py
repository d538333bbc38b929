"""What a figure was measured on is said with it."""

import json
from importlib.metadata import PackageNotFoundError, version

import pytest

from data_pipeline.base import machine as module
from data_pipeline.base.machine import has_int8_dot_product, int8_weight_peak, machine


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


@pytest.mark.parametrize(
    ("flags", "exact"),
    [({"avx2", "avx512f", "avx512bw"}, False), ({"avx2", "avx_vnni"}, True), ({"asimddp"}, True)],
)
def test_a_sum_of_two_int8_products_fits_its_accumulator(monkeypatch, flags, exact):
    assert has_int8_dot_product(flags) is exact
    monkeypatch.setattr(module, "_cpu_flags", lambda: flags)
    bits = 31 if exact else 15
    assert 2 * 255 * int8_weight_peak() < 2**bits
    assert exact or 2 * 255 * (int8_weight_peak() + 1) >= 2**bits
