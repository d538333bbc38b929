"""Several ranks train on the rows of one, and come to the same weights."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from finetune import stages
from finetune.__main__ import main
from finetune.recipes import TrainRecipe
from finetune.training.ranks import World

ROOT = Path(__file__).parents[3]
MAIN = ROOT / "finetune" / "__main__.py"


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [1, 2, 7, 32])
def test_ranks_share_a_batch_out(size, count):
    rows = np.arange(100, 100 + count)
    worlds = [World(rank, size) for rank in range(size)]
    assert sum(world.share(rows) for world in worlds) == pytest.approx(1)
    parts = [world.mine(rows) for world in worlds]
    assert all(len(part) for part in parts)
    if count >= size:
        assert sorted(np.concatenate(parts)) == rows.tolist()
    values = np.random.default_rng(0).normal(size=200)
    mean = sum(world.share(rows) * values[world.mine(rows)].mean() for world in worlds)
    assert mean == pytest.approx(values[rows].mean())


def on_two_ranks(log: Path, *arguments: str, fails: bool = False) -> str:
    """Start a script on two ranks; what it printed. The exit code of a failure is that of either
    rank: the launcher ends the other one when the first has failed."""
    command = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", "2"]
    process = subprocess.run(
        [*command, "--log_dir", str(log), *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    logs = "".join(path.read_text(errors="replace") for path in sorted(log.glob("workerlog.*")))
    assert (process.returncode != 0) == fails, process.stderr[-2000:] + logs[-3000:]
    return logs


SAME_MASKS = """
import sys
import numpy as np
from finetune.prune import sparse
from finetune.settings import FitSettings, SparseSettings
from finetune.tasks.settings import TaskSettings
from finetune.training import ranks
from finetune.training.fit import fit
from finetune.training.task_data import load_with_task
from finetune.training.train import losses_of

classifier, folder = sys.argv[1:3]
files = {name: f"{folder}/{name}.jsonl" for name in ("train", "dev", "test")}
model, data = load_with_task(classifier, TaskSettings(name="file", **files))
fit_settings = FitSettings(epochs=0.5, batch_size=16)
settings = SparseSettings(method="movement", begin_share=0, every=2, fit=fit_settings)
pruner = sparse.Pruner(model, settings)
fit(model, data.train, fit_settings, losses_of(model, fit_settings, data.train),
    lambda: {"accuracy": 0.0, "macro_f1": 0.0}, on_gradients=pruner.on_gradients,
    after_step=pruner.after_step, keep_last=True)
masks = np.concatenate([mask.ravel() for mask in pruner.masks.values()])
np.save(f"{sys.argv[3]}/rank{ranks.current().rank}.npy", masks)
ranks.leave()
"""


@pytest.mark.ranks
def test_movement_masks_are_the_same_on_both_ranks(tmp_path, classifier_dir, workshop):
    (tmp_path / "program.py").write_text(SAME_MASKS)
    arguments = (str(tmp_path / "program.py"), str(classifier_dir), str(workshop), str(tmp_path))
    on_two_ranks(tmp_path / "log", *arguments)
    first, second = (np.load(tmp_path / f"rank{rank}.npy") for rank in (0, 1))
    assert 0.4 < first.mean() < 0.6
    np.testing.assert_array_equal(first, second)


@pytest.mark.ranks
def test_compress_on_two_ranks_makes_every_stage_once(tmp_path, encoder, task):
    fit = {"epochs": 1, "batch_size": 30, "learning_rate": 3e-3, "dropout": 0.0}
    values = {
        "output_dir": str(tmp_path / "out"),
        "student": str(encoder),
        "task": task.model_dump(mode="json"),
        "max_length": 16,
        "train": fit,
        "prune": {"widths": [0.5], "fit": fit},
        "quantise": {"mode": "static", "batches": 4, "allowed_drop": 50.0},
        "report": {"repeats": 1, "batch_repeats": 1, "batch_sizes": [1], "threads": [1]},
    }
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(values, allow_unicode=True))
    command = (str(MAIN), "compress", "--config", str(tmp_path / "r.yaml"))
    logs = on_two_ranks(tmp_path / "log", *command)
    for stage in ("train", "prune", "export", "quantise", "report"):
        written = re.findall(rf"^{stage}: \S+ written in", logs, re.MULTILINE)
        assert len(written) == (2 if stage in ("export", "quantise") else 1), written
    assert (tmp_path / "out" / "chosen.json").exists()
    assert not [path for path in tmp_path.rglob(".*") if ".making" in path.name]


@pytest.mark.ranks
def test_a_command_for_one_process_refuses_two_ranks(tmp_path):
    arguments = (str(MAIN), "export", "--config", "none.yaml")
    logs = on_two_ranks(tmp_path / "log", *arguments, fails=True)
    assert "export runs in one process and was started on 2 ranks" in logs


@pytest.mark.parametrize("command", ["serve", "text_in", "predict", "embed"])
def test_so_does_a_command_on_a_model_directory(command, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    assert main([command, str(tmp_path)]) == 2
    assert f"{command} runs in one process and was started on 2 ranks" in capsys.readouterr().err


@pytest.mark.ranks
def test_two_real_ranks_come_to_the_weights_of_one(tmp_path, encoder, task, fit_settings):
    from pretrain.encoders import weights

    quick = fit_settings.model_copy(update={"epochs": 1, "batch_size": 30})
    recipe = TrainRecipe(
        output_dir=tmp_path / "one", encoder=encoder, task=task, train=quick, max_length=16
    )
    stages.train(recipe)
    path = tmp_path / "two.yaml"
    values = recipe.model_dump(mode="json") | {"output_dir": str(tmp_path / "two")}
    path.write_text(yaml.safe_dump(values, allow_unicode=True))
    on_two_ranks(tmp_path / "log", str(MAIN), "train", "--config", str(path))
    one, two = (weights.read(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, atol=2e-4, err_msg=name)
    assert not list(tmp_path.glob(".two.making*"))
