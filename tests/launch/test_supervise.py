import os
import signal
import subprocess
import sys
import textwrap

import pytest

from launch.supervise import MARKER, SAVED_AND_STOPPED, Supervisor

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


def supervisor(tmp_path, crashes, **settings):
    script = tmp_path / "run.py"
    script.write_text(RUN)
    folder = tmp_path / "checkpoints"
    folder.mkdir(exist_ok=True)
    said = []
    made = Supervisor(
        command=[sys.executable, str(script), str(folder), MARKER, crashes],
        environment=dict(os.environ),
        checkpoints=folder,
        pause=0,
        say=said.append,
        **settings,
    )
    return made, said


def test_a_job_that_loses_ranks_comes_back_from_its_checkpoint(tmp_path):
    job, said = supervisor(tmp_path, "2,4")
    assert job.run() == 0
    assert job.newest_step() == 5
    assert "from checkpoint of step 1" in said[0]
    assert "from checkpoint of step 3" in said[1]


def test_restarts_without_progress_come_to_an_end(tmp_path):
    job, said = supervisor(tmp_path, "3!", max_restarts=2)
    assert job.run() == 250
    assert job.newest_step() == 2
    assert "restarts brought no new checkpoint" in said[-1]


def test_progress_resets_the_count(tmp_path):
    job, _ = supervisor(tmp_path, "1,2,3,4,5", max_restarts=1)
    assert job.run() == 0


@pytest.mark.parametrize("code", [2, 75, 76])
def test_what_a_restart_cannot_mend_is_not_restarted(tmp_path, code):
    job = Supervisor(
        command=[sys.executable, "-c", f"raise SystemExit({code})"],
        environment=dict(os.environ),
        checkpoints=tmp_path,
        pause=0,
        say=pytest.fail,
    )
    assert job.run() == code


def test_an_incomplete_checkpoint_does_not_count(tmp_path):
    job, _ = supervisor(tmp_path, "")
    (tmp_path / "checkpoints" / "step-9").mkdir()
    assert job.newest_step() == -1


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
        sys.exit(Supervisor(command, dict(os.environ), place, pause=0).run())
        """
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == SAVED_AND_STOPPED
