"""Kubernetes objects: an indexed Job with its Service, or a PaddleJob of Kubeflow's operator.

Sources: https://kubernetes.io/docs/concepts/workloads/controllers/job/ (indexed Jobs, pod failure
policy) and https://github.com/kubeflow/training-operator, tag v1.9.0 (PaddleJob).
"""

import yaml

from data_pipeline.base import exits
from launch.clusters.placement import Placement, node_command
from launch.job import Job

MASTER_PORT = 29671  # every Job has its own Service and name, so one port does for all
BACKOFF_LIMIT = 20  # failed pods per node before the Job fails


def indexed_job(job: Job, placement: Placement) -> str:
    """A headless Service and an indexed Job: pod number N is node N, pod 0 the meeting point."""
    master = f"{placement.name}-0.{placement.name}:{MASTER_PORT}"
    command = node_command(job, placement, master, "$JOB_COMPLETION_INDEX")
    labels = {"app": placement.name}
    batch = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": placement.name},
        "spec": {
            "completionMode": "Indexed",
            "completions": job.nnodes,
            "parallelism": job.nnodes,
            "backoffLimit": BACKOFF_LIMIT * job.nnodes,
            "activeDeadlineSeconds": placement.hours * 3600,
            "podFailurePolicy": {"rules": _failure_rules()},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"subdomain": placement.name, **_pod(job, placement, command, "node")},
            },
        },
    }
    return yaml.safe_dump_all([_service(placement.name, labels), batch], sort_keys=False)


def paddle_job(job: Job, placement: Placement) -> str:
    """A PaddleJob. Its operator numbers the pods and starts lost ones again; which node is the
    master is given by a Service on the first pod."""
    labels = {
        "training.kubeflow.org/job-name": placement.name,
        "training.kubeflow.org/replica-type": "worker",
    }
    first = {**labels, "training.kubeflow.org/replica-index": "0"}
    name = f"{placement.name}-master"
    # The operator names pods JOB-worker-N.
    command = node_command(job, placement, f"{name}:{MASTER_PORT}", "${HOSTNAME##*-}")
    command += " --kubeflow_codes"
    paddle = {
        "apiVersion": "kubeflow.org/v1",
        "kind": "PaddleJob",
        "metadata": {"name": placement.name},
        "spec": {
            "runPolicy": {
                "activeDeadlineSeconds": placement.hours * 3600,
                "backoffLimit": BACKOFF_LIMIT * job.nnodes,
            },
            "paddleReplicaSpecs": {
                "Worker": {
                    "replicas": job.nnodes,
                    # Starts a pod again after exit codes of 128 and more, and fails otherwise.
                    "restartPolicy": "ExitCode",
                    "template": {"spec": _pod(job, placement, command, "paddle")},
                }
            },
        },
    }
    return yaml.safe_dump_all([_service(name, first), paddle], sort_keys=False)


def _failure_rules() -> list[dict]:
    """The first rule that fits decides. A node that is taken away does not count as a failure; what
    would fail in the same way again ends the Job; anything else is started again."""
    final = [exits.USER_ERROR, exits.NOT_FINITE]
    return [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": final}},
        {
            "action": "Ignore",
            "onExitCodes": {"operator": "In", "values": [exits.SAVED_AND_STOPPED]},
        },
    ]


def _service(name: str, selector: dict[str, str]) -> dict:
    """Headless, and there before its pods are ready: the nodes meet before anything is."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {
            "clusterIP": "None",
            "selector": selector,
            "publishNotReadyAddresses": True,
            "ports": [{"name": "nodes", "port": MASTER_PORT}],
        },
    }


def _pod(job: Job, placement: Placement, command: str, container: str) -> dict:
    cpus = str(placement.cpus_per_rank * job.nproc_per_node)
    gpus = {"nvidia.com/gpu": str(placement.gpus_per_node)} if placement.gpus_per_node else {}
    claims = dict(volume.split(":", 1) for volume in placement.volumes)
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": placement.grace_seconds,
        "containers": [
            {
                "name": container,
                "image": placement.image,
                "workingDir": placement.workdir,
                "command": ["bash", "-c", f"exec {command}"],
                "resources": {"requests": {"cpu": cpus}, "limits": gpus},
                "volumeMounts": [
                    *({"name": claim, "mountPath": path} for claim, path in claims.items()),
                    {"name": "shm", "mountPath": "/dev/shm"},
                ],
            }
        ],
        "volumes": [
            *({"name": claim, "persistentVolumeClaim": {"claimName": claim}} for claim in claims),
            {"name": "shm", "emptyDir": {"medium": "Memory"}},  # of NCCL between a node's ranks
        ],
    }
