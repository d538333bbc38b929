import io
import os
import subprocess
import sys

from data_pipeline.base.quiet import WithoutStartupTalk, without_startup_talk

THREADS = """\
WARNING: OMP_NUM_THREADS set to 8, not 1. The computation speed will not be optimized if you
"""
FLAGS = (
    "======================= Modified FLAGS detected =======================\n"
    "FLAGS(name='FLAGS_enable_pir_in_executor', current_value=True, default_value=False)\n"
    "=======================================================================\n"
)


def test_the_talk_is_left_out_and_all_else_passes_in_its_order():
    shown = io.StringIO()
    stream = WithoutStartupTalk(shown)
    print("before", file=stream)
    for text in (THREADS, "PLEASE USE OMP_NUM_THREADS WISELY.\n", FLAGS):
        stream.write(text)
    print("WARNING: the disk is full", file=stream)
    print("=== a title ===\nFLAGS are wrong", file=stream)
    stream.write("no end of ")
    assert shown.getvalue().endswith("FLAGS are wrong\nno end of ")  # at once, as a bar wants it
    stream.write("line\nPart")
    stream.flush()
    assert shown.getvalue() == (
        "before\nWARNING: the disk is full\n=== a title ===\nFLAGS are wrong\nno end of line\nPart"
    )
    assert not stream.isatty()


def test_an_error_inside_is_shown_whole():
    program = (
        "import sys\nfrom data_pipeline.base.quiet import without_startup_talk\n"
        "@without_startup_talk()\n"
        "def main():\n    import paddle\n    sys.stderr.write('Partly ')\n    1 / 0\n"
        "main()"
    )
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True,
        check=False, env=os.environ | {"OMP_NUM_THREADS": "3"},
    )  # fmt: skip
    assert "OMP_NUM_THREADS" not in result.stderr
    assert result.stderr.startswith("Partly Traceback")
    assert "ZeroDivisionError" in result.stderr


def test_stderr_is_what_it_was_afterwards():
    before = sys.stderr
    with without_startup_talk():
        assert sys.stderr is not before
    assert sys.stderr is before
