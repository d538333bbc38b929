"""Paddle's launcher as a child process that cannot outlive its supervisor, with its ranks."""

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import psutil

from data_pipeline.base import exits, processes


class Launcher:
    """One start of `python -m paddle.distributed.launch` on this node, and the ranks below it."""

    def __init__(self, command: list[str], environment: dict[str, str]):
        """Start `command`. Call from the main thread: the kernel ties the child to it."""
        processes.adopt_orphans()  # ranks whose launcher was killed can then be found, and ended
        self._codes = Path(tempfile.mkdtemp(prefix="ppminilm-exit-"))
        self._process = subprocess.Popen(
            processes.tied_to_this_process(command),
            env={
                **_without_threads(environment),
                exits.DIRECTORY_VARIABLE: str(self._codes),
                processes.SUPERVISOR_VARIABLE: str(os.getpid()),
            },
            start_new_session=True,  # Ctrl-C reaches the supervisor alone, which passes it on
        )

    def poll(self) -> exits.RankExit | None:
        """How this node ended (see `exits.exit_of_node`), None before that. Ranks that the launcher
        left behind are ended too."""
        if self._process.poll() is None:
            return None
        self._end_descendants()
        end = exits.exit_of_node(self._process.returncode, exits.recorded(self._codes))
        shutil.rmtree(self._codes, ignore_errors=True)
        return end

    def ask_to_save(self) -> None:
        """SIGTERM to the ranks: they save, and end with 75. Sent to the launcher it would leave
        them 30 s, which a large checkpoint may exceed."""
        ranks = self._ranks()
        for rank in ranks:
            _send(rank, signal.SIGTERM)
        if not ranks:
            self._process.terminate()

    def kill(self) -> None:
        """End the launcher and its ranks at once."""
        self._process.kill()
        self._process.wait()
        self._end_descendants()

    def _ranks(self) -> list[psutil.Process]:
        try:
            children = psutil.Process(self._process.pid).children()
        except psutil.NoSuchProcess:
            return []
        return [child for child in children if _variable(child, "PADDLE_TRAINER_ID") is not None]

    def _end_descendants(self) -> None:
        """Kill what carries this start's directory in its environment: orphans are children of
        this process now."""
        ours = [
            child
            for child in psutil.Process().children(recursive=True)
            if _variable(child, exits.DIRECTORY_VARIABLE) == str(self._codes)
        ]
        for child in ours:
            _send(child, signal.SIGKILL)
        psutil.wait_procs(ours, timeout=10)


def _without_threads(environment: dict[str, str]) -> dict[str, str]:
    """For the launcher; its ranks get their number of threads back by `processes.take_threads`."""
    threads = environment.get("OMP_NUM_THREADS")
    if threads is None:
        return environment
    return {**environment, "OMP_NUM_THREADS": "1", processes.THREADS_VARIABLE: threads}


def _variable(process: psutil.Process, name: str) -> str | None:
    try:
        return process.environ().get(name)
    except psutil.Error:
        return None


def _send(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.Error:
        return
