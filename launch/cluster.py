"""The same job on many boxes: a Slurm batch script, or Kubernetes objects, as text to submit.

Both start one `python -m launch` a node, which starts the node's ranks; the nodes meet at node 0.
Neither is submitted from here: the text is printed, to be read, changed and handed on.
"""

import shlex
from dataclasses import dataclass

import yaml

from launch.job import Job

MASTER_PORT = 29671


@dataclass(frozen=True)
class Cluster:
    """What a scheduler wants to know besides the job itself."""

    name: str
    gpus_per_node: int
    cpus_per_rank: int = 8
    hours: int = 72
    image: str = "REGISTRY/ppminilm-fleet:latest"
    volume_claim: str = "ppminilm-data"
    workdir: str = "/workspace"


def node_command(job: Job, master: str, node_rank: str) -> str:
    """`python -m launch` for one node. `master` and `node_rank` may be shell expressions."""
    words = ["python", "-m", "launch", str(job.recipe)]
    words += ["--nproc_per_node", str(job.nproc_per_node), "--nnodes", str(job.nnodes)]
    quoted = " ".join(shlex.quote(word) for word in words)
    extra = " ".join(shlex.quote(word) for word in job.overrides)
    return f'{quoted} --master "{master}" --node_rank "{node_rank}" {extra}'.rstrip()


def slurm(job: Job, cluster: Cluster) -> str:
    """A batch script. Slurm sends SIGTERM two minutes before the time is up; the run saves itself
    and ends with its own exit code, upon which the job puts itself back into the queue."""
    gpu_line = f"#SBATCH --gpus-per-node={cluster.gpus_per_node}\n" if cluster.gpus_per_node else ""
    command = node_command(job, "$MASTER", "$SLURM_NODEID")
    return f"""\
#!/usr/bin/env bash
#SBATCH --job-name={cluster.name}
#SBATCH --nodes={job.nnodes}
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task={cluster.cpus_per_rank * job.nproc_per_node}
{gpu_line}#SBATCH --time={cluster.hours}:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%x-%j.log
set -uo pipefail
export MASTER="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1):{MASTER_PORT}"
srun --kill-on-bad-exit=1 bash -c {shlex.quote(command)}
code=$?
# 75: the run saved itself on SIGTERM and wants to go on.
if [ "$code" -eq 75 ]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$code"
"""


def kubernetes(job: Job, cluster: Cluster) -> str:
    """A headless Service and an Indexed Job: pod number N is node N, pod 0 the meeting point."""
    labels = {"app": cluster.name}
    master = f"{cluster.name}-0.{cluster.name}:{MASTER_PORT}"
    command = node_command(job, master, "$JOB_COMPLETION_INDEX")
    cpus = str(cluster.cpus_per_rank * job.nproc_per_node)
    limits = {"nvidia.com/gpu": str(cluster.gpus_per_node)} if cluster.gpus_per_node else {}
    container = {
        "name": "node",
        "image": cluster.image,
        "workingDir": cluster.workdir,
        "command": ["bash", "-c", f"exec {command}"],
        "resources": {"requests": {"cpu": cpus}, "limits": limits},
        "volumeMounts": [
            {"name": "data", "mountPath": cluster.workdir},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
    }
    pod = {
        "subdomain": cluster.name,
        "restartPolicy": "OnFailure",
        "terminationGracePeriodSeconds": 120,
        "containers": [container],
        "volumes": [
            {"name": "data", "persistentVolumeClaim": {"claimName": cluster.volume_claim}},
            {"name": "shm", "emptyDir": {"medium": "Memory"}},
        ],
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": cluster.name},
        "spec": {"clusterIP": "None", "selector": labels, "publishNotReadyAddresses": True},
    }
    indexed_job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": cluster.name},
        "spec": {
            "completionMode": "Indexed",
            "completions": job.nnodes,
            "parallelism": job.nnodes,
            "backoffLimit": 20,
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
    return yaml.safe_dump_all([service, indexed_job], sort_keys=False)
