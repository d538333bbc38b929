"""A process that hangs ends, with its stacks and those of its neighbours."""

import signal
import subprocess
import sys
import textwrap

from pretrain.training.hang import HUNG, SHORTEST_LIMIT, StepLimit
from tests.pretrain.tiny import ROOT


def start(body, *words):
    program = "import sys, threading, time\nfrom pretrain.training.hang import HangWatch\n"
    return subprocess.Popen(
        [sys.executable, "-c", program + textwrap.dedent(body), *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_hang_ends_with_the_stacks_of_all():
    neighbour = start(
        """
        def standing_still():
            print("ready", flush=True)
            threading.Event().wait()
        with HangWatch(600, 1, []):
            standing_still()
        """
    )
    assert neighbour.stdout.readline() == "ready\n"
    neighbour.send_signal(signal.SIGSTOP)
    hung = start(
        """
        def waiting_for_the_other():
            threading.Event().wait()
        with HangWatch(0.5, 0, [int(sys.argv[1])]):
            waiting_for_the_other()
        """,
        str(neighbour.pid),
    )
    message = hung.communicate(timeout=60)[1]
    assert hung.returncode == HUNG
    assert "rank 0: a step has taken longer than 0.5 s (safety.hang_seconds)" in message
    assert "waiting_for_the_other" in message
    neighbour.kill()
    assert "standing_still" in neighbour.communicate(timeout=60)[1]


def test_steps_that_take_their_time_are_left_alone():
    alive = start(
        """
        with HangWatch(1.0, 0, []) as watch:
            for _ in range(15):
                watch.touch()
                time.sleep(0.1)
        time.sleep(1.2)  # nothing is watched any more
        """
    )
    assert alive.communicate(timeout=60)[1] == ""
    assert alive.returncode == 0


def test_the_limit_follows_the_slowest_step_within_bounds():
    limit = StepLimit(1800, factor=20)
    for seconds in (90.0, 1.0):  # the first steps say little: something is compiled in them
        limit.measured(seconds)
        assert limit.current == 1800
    limit.measured(1.0)
    assert limit.current == 1800  # 20 x 90 s
    quick = StepLimit(1800, factor=20)
    for seconds in (40.0, 2.0, 30.0):
        quick.measured(seconds)
    assert quick.current == 800
    tiny = StepLimit(1800, factor=20)
    for _ in range(9):
        tiny.measured(0.1)
    assert tiny.current == SHORTEST_LIMIT  # a checkpoint takes longer than a step


def test_the_limit_of_the_recipe_is_never_exceeded():
    limit = StepLimit(6, factor=20)
    for _ in range(9):
        limit.measured(5.0)
    assert limit.current == 6
    assert StepLimit(6).current == 6
