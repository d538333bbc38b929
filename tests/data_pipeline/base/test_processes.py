"""Real processes that lose their parent."""

import os
import signal
import subprocess
import sys
import textwrap

import psutil
import pytest

from data_pipeline.base import processes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's part is Linux's")
PRINT_AND_SLEEP = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"


def ends(pid, seconds=20):
    return not psutil.pid_exists(pid) or not psutil.wait_procs([psutil.Process(pid)], seconds)[1]


def parent_of(program, **variables):
    """A process that starts `program` tied to itself and waits; it, and the child's id."""
    code = textwrap.dedent(
        f"""
        import subprocess, sys
        from data_pipeline.base import processes
        command = processes.tied_to_this_process([sys.executable, "-c", {program!r}])
        subprocess.run(command)
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True,
        env=os.environ | variables,
    )  # fmt: skip
    return process, int(process.stdout.readline())


def test_a_tied_process_ends_with_its_parent():
    parent, child = parent_of(PRINT_AND_SLEEP)
    parent.kill()
    parent.wait()
    assert ends(child)


def test_a_command_is_not_started_for_a_parent_that_has_ended():
    command = [sys.executable, processes.__file__, "1", sys.executable, "-c", "print('started')"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert shown == ""


def rank(**variables):
    """A process as a launcher would start it, that has outlived the launcher or not."""
    code = "from data_pipeline.base import processes; processes.end_with_launcher(); print('alive')"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        env=os.environ | variables,
    )  # fmt: skip


def test_a_rank_without_its_launcher_ends_at_once():
    """Its parent here is this test, which is not a launcher."""
    ended = rank(PADDLE_TRAINER_ID="0", **{processes.SUPERVISOR_VARIABLE: "1"})
    assert ended.returncode == 1 and "launcher of this rank has ended" in ended.stderr


def test_a_rank_of_another_launcher_and_a_process_that_is_no_rank_are_left_alone(monkeypatch):
    monkeypatch.delenv(processes.SUPERVISOR_VARIABLE, raising=False)
    assert "alive" in rank(PADDLE_TRAINER_ID="0").stdout
    monkeypatch.delenv("PADDLE_TRAINER_ID", raising=False)
    assert "alive" in rank(**{processes.SUPERVISOR_VARIABLE: "1"}).stdout


def test_orphans_are_adopted():
    code = textwrap.dedent(
        f"""
        import os, subprocess, sys, time
        from data_pipeline.base import processes
        processes.adopt_orphans()
        middle = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', sys.argv[1]])"
        subprocess.run([sys.executable, "-c", middle, {PRINT_AND_SLEEP!r}])
        time.sleep(600)
        """
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    orphan = psutil.Process(int(process.stdout.readline()))
    middle = [child for child in psutil.Process(process.pid).children() if child != orphan]
    psutil.wait_procs(middle, timeout=20)
    assert orphan.ppid() == process.pid
    for one in (orphan, psutil.Process(process.pid)):
        one.send_signal(signal.SIGKILL)
    process.wait()
