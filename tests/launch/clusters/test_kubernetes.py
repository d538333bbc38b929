"""The objects are valid by Kubernetes' and Kubeflow's own schemas."""

import json
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from launch.clusters import kubernetes
from launch.clusters.placement import Placement
from launch.job import Job

VERSIONS = ("1.31", "1.34")
# Taken from kubeflow/training-operator, tag v1.9.0 (Apache-2.0), see the file's "source".
PADDLE_JOB_SCHEMA = Path(__file__).with_name("paddlejob.v1.schema.json")


@pytest.fixture
def placement():
    return Placement(
        name="big",
        gpus_per_node=8,
        image="registry.example/ppminilm:1",
        volumes=("corpus:/workspace/data", "runs:/workspace/runs"),
        hours=48,
        grace_seconds=200,
    )


@pytest.fixture
def job():
    return Job(
        recipe="recipes/distill.yaml",
        entry="pretrain/run.py",
        nproc_per_node=8,
        nnodes=4,
        log_dir="runs/x/log",
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_service_and_job_pass_the_schemas(job, placement, version):
    for item in yaml.safe_load_all(kubernetes.indexed_job(job, placement)):
        kubernetes_validate.validate(item, version, strict=True)


def test_a_paddle_job_passes_the_v1_schema_and_its_pods_those_of_kubernetes(job, placement):
    service, paddle = yaml.safe_load_all(kubernetes.paddle_job(job, placement))
    jsonschema.validate(paddle, json.loads(PADDLE_JOB_SCHEMA.read_text()))
    kubernetes_validate.validate(service, VERSIONS[-1], strict=True)
    worker = paddle["spec"]["paddleReplicaSpecs"]["Worker"]
    template = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, **worker["template"]}
    kubernetes_validate.validate(template, VERSIONS[-1], strict=True)
    # The operator looks for the container of this name.
    assert [c["name"] for c in template["spec"]["containers"]] == ["paddle"]
    assert worker["replicas"] == 4
    assert "--kubeflow_codes" in template["spec"]["containers"][0]["command"][-1]


def test_the_schema_does_refuse_what_is_wrong(job, placement):
    _, paddle = yaml.safe_load_all(kubernetes.paddle_job(job, placement))
    paddle["spec"]["paddleReplicaSpecs"]["Worker"]["restartPolicy"] = 3
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(paddle, json.loads(PADDLE_JOB_SCHEMA.read_text()))


def test_pods_are_numbered_as_nodes_and_meet_at_pod_0(job, placement):
    service, batch = yaml.safe_load_all(kubernetes.indexed_job(job, placement))
    spec = batch["spec"]
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"] == 4
    pod = spec["template"]["spec"]
    # The name of pod 0 exists only below a Service of the subdomain's name.
    assert pod["subdomain"] == service["metadata"]["name"] == "big"
    shell = pod["containers"][0]["command"][-1]
    assert '--node_rank "$JOB_COMPLETION_INDEX"' in shell
    assert f'--master "big-0.big:{kubernetes.MASTER_PORT}"' in shell
    assert service["spec"]["publishNotReadyAddresses"]
    assert service["spec"]["ports"][0]["port"] == kubernetes.MASTER_PORT


def test_what_would_fail_again_is_not_retried(job, placement):
    _, batch = yaml.safe_load_all(kubernetes.indexed_job(job, placement))
    rules = batch["spec"]["podFailurePolicy"]["rules"]
    final = [r["onExitCodes"]["values"] for r in rules if r["action"] == "FailJob"]
    assert final == [[2, 76]]
    # Taken away, and saved on request: started again, and not counted as failures.
    ignored = [rule for rule in rules if rule["action"] == "Ignore"]
    assert ignored[0]["onPodConditions"][0]["type"] == "DisruptionTarget"
    assert ignored[1]["onExitCodes"]["values"] == [75]
    assert batch["spec"]["template"]["spec"]["restartPolicy"] == "Never"


def test_flags_decide_image_volumes_hours_and_grace(job, placement):
    _, batch = yaml.safe_load_all(kubernetes.indexed_job(job, placement))
    assert batch["spec"]["activeDeadlineSeconds"] == 48 * 3600
    pod = batch["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert container["image"] == "registry.example/ppminilm:1"
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "8"}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts["corpus"] == "/workspace/data" and mounts["runs"] == "/workspace/runs"
    assert pod["terminationGracePeriodSeconds"] == 200
    assert "--grace_seconds 170" in container["command"][-1]
