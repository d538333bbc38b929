"""Several ranks train on the rows of one, and come to the same weights."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from finetune import stages
from finetune.recipes import TrainRecipe
from finetune.training.ranks import World

ROOT = Path(__file__).parents[3]


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
    command = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", "2"]
    command += ["--log_dir", str(tmp_path / "log"), str(ROOT / "finetune" / "__main__.py")]
    done = subprocess.run(
        [*command, "train", "--config", str(path)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-3000:]
    one, two = (weights.read(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, atol=2e-4, err_msg=name)
    assert not list(tmp_path.glob(".two.making*"))
