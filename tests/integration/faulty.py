"""`pretrain/run.py` on one rank, with the faults that FAULTS (JSON) names:

samples: folder where the relation groups of each step, and the shards that are opened, are written
    down
rank: whom the others befall; all ranks when absent
kill_before: step before which the rank is killed with SIGKILL
kill_in_save: [step, n]; killed before the n-th file operation of saving that step
full_disk_from: step from which no file may grow past 12,000 bytes
not_finite: steps whose loss is not finite
"""

import fcntl
import json
import os
import resource
import signal
import sys
from pathlib import Path

from data_pipeline.shards import format as shards
from pretrain import entry, run
from pretrain.training import checkpoint
from pretrain.training import loop as train

FAULTS = json.loads(os.environ["FAULTS"])
RANK = int(os.environ.get("PADDLE_TRAINER_ID", "0"))
BEFALLEN = FAULTS.get("rank", RANK) == RANK


def kill() -> None:
    """End at once, with nothing written."""
    os.kill(os.getpid(), signal.SIGKILL)


def write_down(step: int, batches, world_size: int) -> None:
    """One line: the groups of this rank, by their place in the global batch."""
    rows = [
        batch.sample_ids.reshape(-1, min(batch.relation_group_size, len(batch.sample_ids)))
        for batch in batches
    ]
    groups = [group.tolist() for row in rows for group in row]
    places = {number * world_size + RANK: group for number, group in enumerate(groups)}
    with (Path(FAULTS["samples"]) / "samples.jsonl").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(json.dumps({"step": step, "rank": RANK, "groups": places}) + "\n")


def open_shard(path, inner=shards._open):
    """The real one, after one line with the rank and the shard."""
    with (Path(FAULTS["samples"]) / "opened.txt").open("a") as file:
        file.write(f"{RANK} {path.name}\n")
    return inner(path)


def forward_backward(trainer, ready, *rest, inner=train.forward_backward):
    """The real one, after what is to happen at this step; steps are counted from 1."""
    step_number = ready.step + 1
    write_down(step_number, ready.batches, trainer.world.size)
    if BEFALLEN and FAULTS.get("kill_before") == step_number:
        kill()
    if BEFALLEN and FAULTS.get("full_disk_from") == step_number:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))
    if BEFALLEN and step_number in FAULTS.get("not_finite", ()):
        forward = trainer.objective.forward
        trainer.objective.forward = lambda *inputs: (forward(*inputs)[0] * float("nan"), {})
        try:
            return inner(trainer, ready, *rest)
        finally:
            trainer.objective.forward = forward
    return inner(trainer, ready, *rest)


def begin(folder, step, inner=checkpoint.begin):
    """The real begin of saving, from where on file operations are counted."""
    wanted, operation = FAULTS.get("kill_in_save", (None, 0))
    if BEFALLEN and step == wanted:
        seen = 0

        def hook(event, _):
            nonlocal seen
            seen += event.startswith(("open", "os.", "shutil."))
            if seen == operation:
                kill()

        sys.addaudithook(hook)
    return inner(folder, step)


if __name__ == "__main__":
    train.forward_backward, checkpoint.begin = forward_backward, begin
    shards._open = open_shard
    entry.end(run.main())
