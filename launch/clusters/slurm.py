"""A Slurm batch script.

Sources: https://slurm.schedmd.com/sbatch.html (`--signal`, `--requeue`, `SLURM_RESTART_COUNT`) and
https://slurm.schedmd.com/srun.html (`--cpus-per-task` is no longer inherited from sbatch since
22.05, `--kill-on-bad-exit`).
"""

import shlex

from launch.clusters.placement import Placement, node_command
from launch.job import Job

FIRST_PORT, PORTS = 20000, 10000


def script(job: Job, placement: Placement) -> str:
    """The script, to be given to `sbatch`.

    `grace_seconds` before the time is up, Slurm sends SIGURG to all processes of the step.
    Supervisors react to it by asking their ranks to save; Paddle's launcher, which on SIGTERM would
    kill the ranks after 30 s, ignores it. All supervisors then end with 75, and the script, still
    running, puts the job back into the queue. Supervisors end together, so srun needs no
    kill-on-bad-exit, which would race with the requeue.
    """
    cpus = placement.cpus_per_rank * job.nproc_per_node
    lines = ["#!/usr/bin/env bash", f"#SBATCH --job-name={placement.name}"]
    lines += [f"#SBATCH --nodes={job.nnodes}", "#SBATCH --ntasks-per-node=1"]
    lines += [f"#SBATCH --cpus-per-task={cpus}"]
    if placement.gpus_per_node:
        lines += [f"#SBATCH --gpus-per-node={placement.gpus_per_node}"]
    lines += [f"#SBATCH --partition={placement.partition}"] if placement.partition else []
    lines += [f"#SBATCH --account={placement.account}"] if placement.account else []
    lines += [f"#SBATCH --time={placement.hours}:00:00"]
    lines += [f"#SBATCH --signal=23@{placement.grace_seconds}  # 23: SIGURG"]
    lines += ["#SBATCH --requeue", "#SBATCH --open-mode=append"]
    lines += ["#SBATCH --output=slurm-%x-%j.log", "set -uo pipefail", *placement.setup]
    lines += [
        'MASTER="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1):'
        f'$(({FIRST_PORT} + SLURM_JOB_ID % {PORTS}))"',
        "export MASTER",
    ]
    command = node_command(job, placement, "$MASTER", "$SLURM_NODEID")
    srun = ["srun", f"--cpus-per-task={cpus}", "--kill-on-bad-exit=0", *placement.srun_options]
    lines += [
        f"{shlex.join(srun)} bash -c {shlex.quote(f'exec {command}')}",
        "code=$?",
        "# 75: saved on request. 69: a node did not come. 128 and more: a supervisor was killed.",
        'if { [ "$code" -eq 75 ] || [ "$code" -eq 69 ] || [ "$code" -ge 128 ]; } &&',
        f'    [ "${{SLURM_RESTART_COUNT:-0}}" -lt {placement.max_requeues} ]; then',
        '    scontrol requeue "$SLURM_JOB_ID"',
        "fi",
        'exit "$code"',
    ]
    return "\n".join(lines) + "\n"
