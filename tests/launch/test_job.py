from launch import environment, job, preflight
from launch.nodes.messages import Start


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
        "python -m paddle.distributed.launch --log_level ERROR --nproc_per_node 2 "
        "--log_dir runs/x/log pretrain/run.py --config recipes/distill.yaml --seed 1"
    )


def test_several_nodes_get_the_addresses_that_node_0_found_out():
    many = make(nnodes=4, master="node0:29671", node_rank=3)
    start = Start(attempt=2, node=3, master="10.0.0.1:41234", address="10.0.0.4")
    line = " ".join(job.command(many, start, python="python"))
    assert "--nnodes 4 --master 10.0.0.1:41234 --host 10.0.0.4 --rank 3" in line
    assert "--log_dir runs/x/log/node-3" in line
    assert many.world_size == 8


def test_a_dry_run_shows_what_is_known_before_the_nodes_meet():
    assert job.planned_start(make()) is None
    several = make(nnodes=2, node_rank=1)
    line = job.command(several, job.planned_start(several))
    assert "ADDRESS_OF_NODE_0:FREE_PORT" in line and "ADDRESS_OF_THIS_NODE" in line


def test_the_digest_is_that_of_what_the_recipe_says(tmp_path):
    one, other = tmp_path / "a.yaml", tmp_path / "b.yaml"
    one.write_text("a: 1\nb: {c: 2}\n")
    other.write_text("# the same\nb:\n  c: 2\na: 1\n")
    assert job.recipe_sha256(make(recipe=one)) == job.recipe_sha256(make(recipe=other))
    changed = make(recipe=one, overrides=("--b.c", "3"))
    assert job.recipe_sha256(changed) != job.recipe_sha256(make(recipe=one))


def test_the_entries_are_there():
    for kind in job.ENTRIES:
        assert job.entry_of(kind).is_file()


def test_more_ranks_than_gpus_or_cores_is_a_problem(monkeypatch):
    monkeypatch.setattr(environment, "gpus", lambda: [])
    monkeypatch.setattr(preflight, "cores", lambda: 2)
    assert "3 ranks but 2 usable core(s)" in preflight.device_problems(3)[0]
    assert preflight.device_problems(2) == []
    monkeypatch.setattr(environment, "gpus", lambda: ["A", "B", "C", "D"])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert preflight.device_problems(4) == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert "4 ranks but 2 visible GPU(s)" in preflight.device_problems(4)[0]


def test_no_room_for_what_the_recipe_writes_is_a_problem(tmp_path):
    place = tmp_path / "a" / "b"
    assert preflight.disk_problems(place, 10_000) == []
    assert "recipe need 1000000000.0 GB" in preflight.disk_problems(place, 10**18)[0]


def test_what_is_written_already_is_not_needed_again(tmp_path, monkeypatch):
    (tmp_path / "step-1").mkdir()
    (tmp_path / "step-1" / "weights").write_bytes(bytes(1000))
    usage = preflight.shutil.disk_usage(tmp_path)._replace(free=500)
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: usage)
    assert preflight.disk_problems(tmp_path, 1500) == []
    assert len(preflight.disk_problems(tmp_path, 1501)) == 1
