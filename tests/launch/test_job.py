import subprocess
from pathlib import Path

import pytest
import yaml

from launch import cluster, job, preflight


def make(**changes):
    values = {
        "recipe": "recipes/distill.yaml",
        "entry": "pretrain/run.py",
        "nproc_per_node": 2,
        "log_dir": "runs/x/log",
        **changes,
    }
    return job.Job(**values)


def test_the_command_is_paddles_launcher():
    words = job.command(make(overrides=("--seed", "1")), python="python")
    assert " ".join(words) == (
        "python -m paddle.distributed.launch --nproc_per_node 2 --log_dir runs/x/log "
        "pretrain/run.py --config recipes/distill.yaml --seed 1"
    )


def test_several_nodes_meet_at_a_master():
    many = make(nnodes=4, master="node0:29671", node_rank=3)
    words = " ".join(job.command(many, python="python"))
    assert "--nnodes 4 --master node0:29671 --rank 3" in words
    assert many.world_size == 8


def test_the_entries_are_there():
    for kind in job.ENTRIES:
        assert job.entry_of(kind).is_file()


def test_the_slurm_script_is_bash_and_names_its_resources(tmp_path):
    text = cluster.slurm(make(nnodes=8, nproc_per_node=8), cluster.Cluster("run", 8))
    path = tmp_path / "job.sh"
    path.write_text(text)
    subprocess.run(["bash", "-n", str(path)], check=True)
    assert "#SBATCH --nodes=8" in text and "#SBATCH --gpus-per-node=8" in text
    assert "scontrol requeue" in text


def test_the_slurm_script_passes_overrides_and_the_nodes_number(tmp_path):
    made = make(nnodes=2, overrides=("--name", "it's here"))
    text = cluster.slurm(made, cluster.Cluster("run", 0))
    # srun and python are replaced by functions that show the words they are given.
    bash = (
        "scontrol() { echo node0; }; export -f scontrol; SLURM_JOB_NODELIST=x; "
        'srun() { shift; SLURM_NODEID=1 "$@"; }; python() { printf "%s|" "$@"; }; '
        "export -f python\n"
    )
    shown = subprocess.run(["bash", "-c", bash + text], capture_output=True, text=True, check=True)
    words = shown.stdout.strip("|").split("|")
    assert words[words.index("--master") + 1] == f"node0:{cluster.MASTER_PORT}"
    assert words[words.index("--node_rank") + 1] == "1"
    assert words[words.index("--name") + 1] == "it's here"
    assert "gpus-per-node" not in text


def test_kubernetes_numbers_pods_as_nodes():
    text = cluster.kubernetes(make(nnodes=4, nproc_per_node=8), cluster.Cluster("run", 8))
    service, indexed = yaml.safe_load_all(text)
    assert service["spec"]["clusterIP"] == "None"
    spec = indexed["spec"]
    assert spec["completionMode"] == "Indexed" and spec["completions"] == 4
    container = spec["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "8"}
    assert '--node_rank "$JOB_COMPLETION_INDEX"' in container["command"][-1]
    assert f"run-0.run:{cluster.MASTER_PORT}" in container["command"][-1]
    assert spec["template"]["spec"]["subdomain"] == service["metadata"]["name"]


def test_more_ranks_than_gpus_or_cores_is_a_problem(monkeypatch):
    monkeypatch.setattr(preflight, "gpus", lambda: [])
    monkeypatch.setattr(preflight, "cores", lambda: 2)
    assert "3 ranks but 2 usable core(s)" in preflight.device_problems(3)[0]
    assert preflight.device_problems(2) == []
    monkeypatch.setattr(preflight, "gpus", lambda: ["A", "B", "C", "D"])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert preflight.device_problems(4) == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert "4 ranks but 2 visible GPU(s)" in preflight.device_problems(4)[0]


def test_a_master_is_checked_only_for_several_nodes():
    assert preflight.master_problems(make()) == []
    assert "host:port" in preflight.master_problems(make(nnodes=2))[0]
    assert preflight.master_problems(make(nnodes=2, master="127.0.0.1:0", node_rank=0)) == []


def test_a_taken_master_port_is_a_problem():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        taken = make(nnodes=2, node_rank=0, master=f"127.0.0.1:{port}")
        assert f"port {port}" in preflight.master_problems(taken)[0]
        other = make(nnodes=2, node_rank=1, master=f"127.0.0.1:{port}")
        assert preflight.master_problems(other) == []


def test_no_room_is_a_problem(monkeypatch, tmp_path):
    assert preflight.disk_problems(tmp_path / "a" / "b") == []
    monkeypatch.setattr(preflight, "DISK_NEEDED_GB", 10**9)
    assert "GB are wanted" in preflight.disk_problems(tmp_path)[0]


@pytest.mark.parametrize("kind", ["Service", "Job"])
def test_kubernetes_objects_carry_the_name(kind):
    text = cluster.kubernetes(make(nnodes=2), cluster.Cluster("my-run", 0))
    found = {item["kind"]: item for item in yaml.safe_load_all(text)}
    assert found[kind]["metadata"]["name"] == "my-run"
    assert Path(
        found["Job"]["spec"]["template"]["spec"]["containers"][0]["workingDir"]
    ).is_absolute()
