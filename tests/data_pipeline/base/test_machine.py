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
    monkeypatch.setattr(module, "cpu_flags", lambda: flags)
    bits = 31 if exact else 15
    assert 2 * 255 * int8_weight_peak() < 2**bits
    assert exact or 2 * 255 * (int8_weight_peak() + 1) >= 2**bits


def test_fields_of_the_processor_are_read_in_one_place(tmp_path, monkeypatch):
    info = tmp_path / "cpuinfo"
    text = "processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: fma avx2\n"
    info.write_text(text + text.replace("AMD", "Other"))
    monkeypatch.setattr(module, "CPU_INFO", info)
    assert module.cpu_vendor() == "AuthenticAMD"
    assert module.cpu_field("Features", "flags") == "fma avx2"
    monkeypatch.setattr(module, "CPU_INFO", tmp_path / "none")
    assert module.cpu_vendor() == ""


def test_a_containers_memory_limit_counts(tmp_path, monkeypatch):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(module, "CGROUP_LIMITS", (limit,))
    whole = module.memory_bytes()
    limit.write_text("max\n")
    assert module.memory_bytes() == whole
    limit.write_text("123456789\n")
    assert module.memory_bytes() == 123456789
