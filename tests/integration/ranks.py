"""Runs with real ranks: started, waited for, hurt, and compared."""

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from pretrain.encoders import weights
from pretrain.training.metrics import read_metrics
from tests.pretrain import tiny

CLOCK = ("speed/", "time/", "memory/")  # what differs between two equal runs
FAULTY = Path(__file__).with_name("faulty.py")


def digest(tensors: dict) -> str:
    """SHA-256 of named arrays."""
    hasher = hashlib.sha256()
    for name in sorted(tensors):
        hasher.update(name.encode())
        hasher.update(tensors[name].tobytes())
    return hasher.hexdigest()


class Run:
    """One output directory and the processes that fill it; `changes` are laid over the recipe."""

    def __init__(self, root: Path, name: str, **changes):
        self.output_dir, self.log = root / name, root / f"{name}-log"
        values = tiny.distill_values(root, self.output_dir, **changes)
        self.recipe = tiny.write_recipe(root / f"{name}.yaml", values)

    def start(self, ranks: int, environment: dict | None = None, **faults) -> subprocess.Popen:
        """Start ranks; for `faults` see faulty.py. Samples that are trained on are written down."""
        settings = {"FAULTS": json.dumps({"samples": str(self.log), **faults})}
        return tiny.start(FAULTY, self.recipe, ranks, self.log, **settings, **(environment or {}))

    def ends(self, ranks: int, environment: dict | None = None, **faults) -> int:
        """The exit code of such a start."""
        return tiny.finish(self.start(ranks, environment, **faults))

    def finish(self, ranks: int) -> "Run":
        """Run to the end."""
        assert self.ends(ranks) == 0, self.output()
        return self

    def launch(self) -> subprocess.Popen:
        """Start two ranks under `python -m launch`."""
        words = [sys.executable, "-W", "ignore", "-m", "launch", str(self.recipe)]
        self.log.mkdir(parents=True, exist_ok=True)
        return subprocess.Popen(
            [*words, "--nproc_per_node", "2"],
            env=os.environ | {"OMP_NUM_THREADS": "1", "MKL_DEBUG_CPU_TYPE": "5"},
            stdout=(self.log / "out").open("a"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def wait_for_step(self, step: int, process: subprocess.Popen) -> None:
        """Until the record of this step is written."""
        self.wait_for(lambda: self.last_step() >= step, process)

    def wait_for(self, condition, process: subprocess.Popen, seconds: float = 300) -> None:
        """Until something is so, while the process lives and the deadline has not passed."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert process.poll() is None, self.output()
            assert time.monotonic() < deadline, self.output()
            time.sleep(0.005)

    def last_step(self) -> int:
        """Step of the newest record."""
        return max((r["step"] for r in read_metrics(self.output_dir / "metrics.jsonl")), default=0)

    def output(self) -> str:
        """The end of what all processes said."""
        ranks = [*self.log.glob("workerlog.*"), *(self.output_dir / "log").glob("workerlog.*")]
        paths = [self.log / "out", *sorted(ranks)]
        return "\n".join(path.read_text(errors="replace")[-6000:] for path in paths)

    def rank_log(self, rank: int) -> str:
        """All that a rank said, in starts of several ranks."""
        return (self.log / f"workerlog.{rank}").read_text(errors="replace")

    def metrics(self) -> list[dict]:
        """Records without what depends on the clock."""
        return [
            {k: v for k, v in record.items() if not k.startswith(CLOCK)}
            for record in read_metrics(self.output_dir / "metrics.jsonl")
        ]

    def outcome(self) -> tuple:
        """Digests of the final weights and moments, and all records; sharded moments as a whole."""
        last = self.output_dir / "checkpoints" / "step-14"
        tensors = {}
        for path in sorted(last.glob("*.safetensors")):
            tensors |= weights.read(path)
        return digest(tensors), self.metrics()

    def groups(self) -> list[list[list[int]]]:
        """Relation groups of each step, in global order, as trained on last."""
        steps: dict[int, dict[int, list]] = {}
        for line in (self.log / "samples.jsonl").read_text().splitlines():
            record = json.loads(line)
            for place, group in record["groups"].items():
                steps.setdefault(record["step"], {})[int(place)] = group
        return [[steps[n][place] for place in sorted(steps[n])] for n in sorted(steps)]


def ranks_of(process: subprocess.Popen) -> list[psutil.Process]:
    """The ranks somewhere under a process, by number."""
    ranks_by_number = {}
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            words, environment = child.cmdline(), child.environ()
        except psutil.Error:
            continue
        if "paddle.distributed.launch" not in words and "PADDLE_TRAINER_ID" in environment:
            ranks_by_number[int(environment["PADDLE_TRAINER_ID"])] = child
    return [ranks_by_number[number] for number in sorted(ranks_by_number)]
