import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from data_pipeline.base import exits
from launch.launcher import Launcher
from launch.restarts import Restarts
from launch.supervise import MARKER, Supervisor, newest_step

RUN = textwrap.dedent(
    """
    # A run that loses a rank at the steps given: it saves a checkpoint a step, as training does.
    import os, pathlib, sys
    folder, marker, crashes = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3].split(",")
    done = [int(p.parent.name[5:]) for p in folder.glob("step-*/" + marker)]
    for step in range(max(done, default=0) + 1, 6):
        crashed = folder / f"crashed-{step}"
        if f"{step}" in crashes and not crashed.exists():
            crashed.touch()
            os.kill(os.getpid(), 9)
        if f"{step}!" in crashes:
            sys.exit(250)
        place = folder / f"step-{step}"
        place.mkdir(exist_ok=True)
        (place / marker).touch()
    """
)


def supervisor(tmp_path, crashes, max_restarts=3):
    script = tmp_path / "run.py"
    script.write_text(RUN)
    folder = tmp_path / "checkpoints"
    folder.mkdir(exist_ok=True)
    reported = []
    made = Supervisor(
        command=[sys.executable, str(script), str(folder), MARKER, crashes],
        environment=dict(os.environ),
        checkpoints=folder,
        restarts=Restarts(max_restarts, first_pause=0),
        report=reported.append,
    )
    return made, reported


def test_a_job_that_loses_ranks_comes_back_from_its_checkpoint(tmp_path):
    job, reported = supervisor(tmp_path, "2,4")
    assert job.supervise() == 0
    assert newest_step(job.checkpoints) == 5
    assert "from checkpoint of step 1" in reported[0]
    assert "from checkpoint of step 3" in reported[1]


def test_restarts_without_progress_come_to_an_end(tmp_path):
    job, reported = supervisor(tmp_path, "3!", max_restarts=2)
    assert job.supervise() == 250
    assert newest_step(job.checkpoints) == 2
    assert "restarts brought no new checkpoint" in reported[-1]


def test_progress_resets_the_count(tmp_path):
    job, _ = supervisor(tmp_path, "1,2,3,4,5", max_restarts=1)
    assert job.supervise() == 0


@pytest.mark.parametrize("code", [2, 75, 76])
def test_what_a_restart_cannot_cure_is_not_restarted(tmp_path, code):
    job = Supervisor(
        command=[sys.executable, "-c", f"raise SystemExit({code})"],
        environment=dict(os.environ),
        checkpoints=tmp_path,
        report=pytest.fail,
    )
    assert job.supervise() == code


def test_an_incomplete_checkpoint_does_not_count(tmp_path):
    job, _ = supervisor(tmp_path, "")
    (tmp_path / "checkpoints" / "step-9").mkdir()
    assert newest_step(job.checkpoints) == -1


def test_sigterm_reaches_the_run_and_is_not_restarted(tmp_path):
    program = textwrap.dedent(
        f"""
        import os, pathlib, sys
        from launch.supervise import MARKER, Supervisor
        child = '''
        import pathlib, signal, sys
        def save(*_):
            place = pathlib.Path({str(tmp_path)!r}) / "step-3"
            place.mkdir()
            (place / "{MARKER}").touch()
            sys.exit(15)
        signal.signal(signal.SIGTERM, save)
        print("ready", flush=True)
        while True:
            signal.pause()
        '''
        import textwrap
        command = [sys.executable, "-c", textwrap.dedent(child)]
        place = pathlib.Path({str(tmp_path)!r})
        sys.exit(Supervisor(command, dict(os.environ), place).supervise())
        """
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == exits.SAVED_AND_STOPPED


def record_exit(rank, code, message=""):
    """Code of a rank that ends as the commands of this project do."""
    return (
        f"import os; os.environ['PADDLE_TRAINER_ID'] = '{rank}'\n"
        f"from data_pipeline.base import exits; exits.record({code}, {message!r})\n"
    )


@pytest.mark.parametrize("code", [2, 75, 76])
def test_the_code_of_any_rank_decides_not_that_of_the_one_that_was_killed(tmp_path, code):
    """Paddle's launcher passes on the code of the lowest rank, which it has just killed itself."""
    program = record_exit(1, code) + "raise SystemExit(247)"
    job = Supervisor(
        [sys.executable, "-c", program], dict(os.environ), tmp_path, report=pytest.fail
    )
    assert job.supervise() == code


LAUNCHER = textwrap.dedent(
    """
    # Starts a rank in a session of its own, as Paddle's launcher does, and names it.
    import os, subprocess, sys, time
    environment = {**os.environ, "PADDLE_TRAINER_ID": "0"}
    words = [sys.executable, "-c", sys.argv[1]]
    rank = subprocess.Popen(words, env=environment, start_new_session=True)
    print(os.getpid(), rank.pid, flush=True)
    sys.exit(rank.wait())
    """
)
SLEEP = "import time; time.sleep(600)"


def start_supervisor(tmp_path, rank):
    """A supervisor in a process of its own; it, and the process ids of launcher and rank."""
    script = tmp_path / "launcher.py"
    script.write_text(LAUNCHER)
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom launch.restarts import Restarts\n"
        "from launch.supervise import Supervisor\n"
        f"command = [sys.executable, {str(script)!r}, {rank!r}, 'paddle.distributed.launch']\n"
        f"place = Path({str(tmp_path)!r})\n"
        "sys.exit(Supervisor(command, dict(os.environ), place, Restarts(0), 60).supervise())"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    return process, [int(pid) for pid in process.stdout.readline().split()]


def gone(pids):
    found = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    return not psutil.wait_procs(found, timeout=20)[1]


def test_a_killed_launcher_leaves_no_rank(tmp_path):
    """Also one that has not asked for a death signal yet: it is still importing Paddle."""
    process, (launcher, rank) = start_supervisor(tmp_path, SLEEP)
    os.kill(launcher, signal.SIGKILL)
    assert process.wait(timeout=60) == 247
    assert gone([rank])


def test_a_killed_supervisor_leaves_no_launcher_and_no_rank(tmp_path):
    """Not even a rank that is killed before it has asked for a death signal."""
    rank = "from data_pipeline.base import processes; processes.end_with_launcher(); " + SLEEP
    process, pids = start_supervisor(tmp_path, rank)
    process.kill()
    process.wait()
    assert gone(pids)


def test_sigterm_goes_to_the_ranks_which_have_all_the_time_they_are_given(tmp_path):
    rank = (
        "import signal, sys\nfrom data_pipeline.base import exits\n"
        "def save(*_):\n    exits.record(75)\n    sys.exit(75)\n"
        "signal.signal(signal.SIGTERM, save)\n" + SLEEP
    )
    for number in (signal.SIGTERM, signal.SIGURG):
        process, (launcher, _) = start_supervisor(tmp_path, rank + "\n")
        # The launcher of the test does not handle SIGTERM: it would end with 241.
        deadline = time.monotonic() + 20
        while not handles(psutil.Process(launcher).children()[0], signal.SIGTERM):
            assert time.monotonic() < deadline
        process.send_signal(number)
        assert process.wait(timeout=60) == exits.SAVED_AND_STOPPED


def test_threads_are_for_the_ranks_and_not_for_the_launcher(tmp_path):
    """Paddle's launcher would print a warning for more than one."""
    show = "import os; print(os.environ['OMP_NUM_THREADS'], file=open({!r}, 'a'))"
    shown = show.format(str(tmp_path / "shown"))
    rank = f"from data_pipeline.base import processes; processes.take_threads(); {shown}"
    program = f"{shown}\nimport subprocess, sys\nsubprocess.run([sys.executable, '-c', {rank!r}])"
    launcher = Launcher([sys.executable, "-c", program], {**os.environ, "OMP_NUM_THREADS": "6"})
    deadline = time.monotonic() + 60
    while (end := launcher.poll()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert end.code == 0
    assert (tmp_path / "shown").read_text().split() == ["1", "6"]


def handles(process, number):
    """Whether a process has a handler for a signal of its own."""
    lines = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines()
        if ":\t" in line
    )
    return bool(int(lines["SigCgt"], 16) >> (number - 1) & 1)
