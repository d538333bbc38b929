"""The batch script is run by bash; functions stand for Slurm's commands and show their words."""

import subprocess

import pytest

from launch.clusters import slurm
from launch.clusters.placement import Placement
from launch.job import Job

COMMANDS = """
scontrol() { if [ "$1" = show ]; then printf 'node7\\nnode8\\n'; else echo "scontrol $*"; fi; }
srun() {
    while [ "$1" != bash ]; do echo "srun option: $1"; shift; done
    SLURM_NODEID=1 "$@"
    return "$CODE"
}
python() { printf "%s|" "$@"; echo; }
export -f python scontrol
SLURM_JOB_NODELIST=x SLURM_JOB_ID=1234567
"""


def make(**changes):
    values = {
        "recipe": "recipes/distill.yaml",
        "entry": "pretrain/run.py",
        "nproc_per_node": 8,
        "nnodes": 2,
        "log_dir": "runs/x/log",
    }
    return Job(**(values | changes))


def run(script, code=0, **variables):
    script = script.replace("'exec python", "'python")  # a function cannot be executed
    environment = {"PATH": "/usr/bin:/bin", "CODE": str(code), **variables}
    return subprocess.run(
        ["bash", "-c", COMMANDS + script],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip


def words(result):
    line = next(line for line in result.stdout.splitlines() if line.startswith("-m|launch"))
    return line.strip("|").split("|")


def test_each_node_is_started_with_its_number_the_master_and_the_overrides():
    job = make(overrides=("--name", "it's here"))
    result = run(slurm.script(job, Placement(name="big", gpus_per_node=8)))
    assert result.returncode == 0, result.stderr
    line = words(result)
    host, _, port = line[line.index("--master") + 1].partition(":")
    assert host == "node7"
    assert int(port) == slurm.FIRST_PORT + 1234567 % slurm.PORTS
    assert line[line.index("--node_rank") + 1] == "1"
    assert line[line.index("--name") + 1] == "it's here"


def test_the_header_and_srun_carry_what_was_asked_for():
    placement = Placement(
        name="big", gpus_per_node=8, cpus_per_rank=6, hours=24, partition="gpu", account="me",
        setup=("module load cuda/12.6",), srun_options=("--container-image=a b.sqsh",),
    )  # fmt: skip
    script = slurm.script(make(), placement)
    header = [line for line in script.splitlines() if line.startswith("#SBATCH")]
    for expected in (
        "--nodes=2", "--cpus-per-task=48", "--gpus-per-node=8", "--partition=gpu", "--account=me",
        "--time=24:00:00", "--requeue",
    ):  # fmt: skip
        assert f"#SBATCH {expected}" in header
    assert "module load cuda/12.6\n" in script
    shown = run(script.replace("module load", "echo module")).stdout
    # Since Slurm 22.05 srun does not inherit it.
    assert "srun option: --cpus-per-task=48" in shown
    assert "srun option: --container-image=a b.sqsh" in shown
    assert "gpus-per-node" not in slurm.script(make(), Placement(name="cpu", gpus_per_node=0))


@pytest.mark.parametrize(
    ("code", "again"), [(0, False), (2, False), (76, False), (75, True), (69, True), (137, True)]
)
def test_the_job_goes_back_into_the_queue_only_where_that_helps(code, again):
    result = run(slurm.script(make(), Placement(name="big", gpus_per_node=8)), code)
    assert ("scontrol requeue 1234567" in result.stdout) == again
    assert result.returncode == code


def test_requeues_come_to_an_end():
    script = slurm.script(make(), Placement(name="big", gpus_per_node=8, max_requeues=3))
    assert "scontrol requeue" in run(script, 75, SLURM_RESTART_COUNT="2").stdout
    assert "scontrol requeue" not in run(script, 75, SLURM_RESTART_COUNT="3").stdout


def test_supervisors_give_the_ranks_less_time_than_slurm_gives_the_job():
    placement = Placement(name="big", gpus_per_node=8, grace_seconds=300)
    script = slurm.script(make(), placement)
    assert "#SBATCH --signal=23@300" in script
    line = words(run(script))
    assert int(line[line.index("--grace_seconds") + 1]) < 300
    # Nothing may kill the other nodes while they save, or this script before it has requeued.
    assert "--kill-on-bad-exit=0" in script
