"""What the processes of a run are told about the machine."""

import pytest

from launch import environment
from launch.selfcheck.lab import Lab

AVX512 = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}


@pytest.mark.parametrize(
    ("vendor", "flags", "kernels"),
    [
        ("AuthenticAMD", {"avx2"}, "5"),
        ("AuthenticAMD", {"avx2"} | AVX512, "7"),
        ("AuthenticAMD", {"avx2"} | AVX512 - {"avx512vl"}, "5"),
        ("GenuineIntel", {"avx2"} | AVX512, None),  # MKL chooses by itself
    ],
)
def test_mkl_is_told_the_fastest_kernels_of_an_amd_processor(monkeypatch, vendor, flags, kernels):
    monkeypatch.setattr(environment, "cpu_vendor", lambda: vendor)
    monkeypatch.setattr(environment, "cpu_flags", lambda: flags)
    monkeypatch.setattr(environment.platform, "machine", lambda: "x86_64")
    monkeypatch.delenv("MKL_DEBUG_CPU_TYPE", raising=False)
    assert environment.best_for_cpu(1).get("MKL_DEBUG_CPU_TYPE") == kernels


def test_what_the_user_has_set_stays(monkeypatch):
    monkeypatch.setenv("MKL_DEBUG_CPU_TYPE", "4")
    assert "MKL_DEBUG_CPU_TYPE" not in environment.best_for_cpu(1)


@pytest.fixture
def four_gpus(monkeypatch):
    """A function that sets CUDA_VISIBLE_DEVICES on a machine of four; None unsets it."""
    monkeypatch.setattr(environment, "gpus", lambda: ["A", "B", "C", "D"])

    def choose(value):
        if value is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)

    return choose


@pytest.mark.parametrize(
    ("chosen", "visible"),
    [(None, ["0", "1", "2", "3"]), ("3,1", ["3", "1"]), ("GPU-5f", ["GPU-5f"]), ("", []),
     ("-1", [])],
)  # fmt: skip
def test_the_gpus_of_a_run_are_those_that_its_user_has_chosen(
    four_gpus, monkeypatch, chosen, visible
):
    monkeypatch.setattr(environment, "cores", lambda: 8)
    four_gpus(chosen)
    assert environment.visible_gpus() == visible
    assert environment.default_ranks() == (len(visible) or 2)


def test_without_a_driver_there_are_none(monkeypatch):
    monkeypatch.setattr(environment, "gpus", lambda: [])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert environment.visible_gpus() == []


def test_the_self_check_stays_on_the_chosen_gpus(four_gpus, tmp_path):
    """Others may train on the rest of the machine."""
    four_gpus("3,1")
    lab = Lab(tmp_path, "gpu", len(environment.visible_gpus()))
    variables = [lab._environment("gpu", ranks)["CUDA_VISIBLE_DEVICES"] for ranks in (1, 2)]
    assert variables == ["3", "3,1"]
