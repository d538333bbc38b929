"""The loop in this process: skipping, giving up, scaling, accumulating, clipping."""

import os
import re
import shutil
import signal

import numpy as np
import paddle
import pytest

from data_pipeline.base.errors import UserError
from data_pipeline.base.recipes import check, values_of
from data_pipeline.loading.order import World
from data_pipeline.shards.format import Manifest, ShardReader, _open
from pretrain import mlm, run
from pretrain.encoders import weights
from pretrain.objectives import distill
from pretrain.objectives.distill import Distillation
from pretrain.recipe import DistillRecipe, MaskedLMRecipe
from pretrain.training import checkpoint, precision
from pretrain.training import loop as train
from pretrain.training import optimizer as optimize
from pretrain.training.metrics import read_metrics
from pretrain.training.settings import Clip, Optimizer
from tests.pretrain import tiny


@pytest.fixture
def fit(tiny_root, tmp_path):
    """A function that trains the tiny recipe with changes; (exit code, objective, records)."""

    def go(name="run", **changes):
        still = {"student.hidden_dropout_prob": 0.0, "optimizer.total_steps": 6}
        values = tiny.distill_values(tiny_root, tmp_path / name, **(still | changes))
        recipe = check(DistillRecipe, values, "test")
        manifest = Manifest.read(recipe.data.shards)
        objective = run.build(recipe, manifest)
        code = train.fit(objective, recipe, manifest, World())
        return code, objective, read_metrics(recipe.output_dir / "metrics.jsonl")

    return go


@pytest.fixture
def overflow(monkeypatch):
    """A function that makes the loss infinite at some calls of the objective, counted from 0."""

    def at(calls):
        forward, count = Distillation.forward, iter(range(10**6))

        def poisoned(self, *inputs):
            loss, parts = forward(self, *inputs)
            return (loss * float("inf") if next(count) in calls else loss), parts

        monkeypatch.setattr(Distillation, "forward", poisoned)

    return at


def dynamic_scale(settings):
    """What a GPU starts with in float16."""
    return precision.LossScale(settings.initial_loss_scale, dynamic=True)


def weights_of(objective):
    return {name: value.numpy().copy() for name, value in objective.state_dict().items()}


def test_a_step_that_is_not_finite_changes_no_weight_and_no_schedule(fit, overflow):
    micro = 4  # per step
    _, clean, expected = fit("clean", **{"optimizer.total_steps": 5})
    overflow({2 * micro + 1})  # the third step, in its second micro-batch
    code, _, records = fit("poisoned")
    assert code == 0
    assert [record["optim/skipped"] for record in records] == [0, 0, 1, 1, 1, 1]
    rates = [record["optim/lr"] for record in records]
    assert rates[2] == rates[3]  # the skipped step's rate is used again
    assert records[1]["loss/total"] == pytest.approx(expected[1]["loss/total"], rel=1e-6)
    assert all(np.isfinite(w).all() for w in weights_of(clean).values())


def test_steps_that_stay_not_finite_end_the_run_with_a_word(
    fit, overflow, tmp_path, tiny_root, monkeypatch
):
    overflow(range(8, 10**6))  # from the third step on
    with pytest.raises(UserError, match="3 steps in a row") as caught:
        fit(**{"safety.max_skipped_steps": 3, "checkpoint.every_steps": 1})
    assert caught.value.exit_code == train.NOT_FINITE
    # What it advises can be done: a run with half the rate, from the weights of before.
    monkeypatch.undo()
    _, options = re.split("checkpoint: (?=--)", str(caught.value))
    values = tiny.distill_values(tiny_root, tmp_path / "run", **{"optimizer.total_steps": 6})
    file = tiny.write_recipe(tmp_path / "recipe.yaml", values)
    recipe = check(DistillRecipe, values_of(file, options.split()), "test")
    assert recipe.optimizer.learning_rate == values["optimizer"]["learning_rate"] / 2
    manifest = Manifest.read(recipe.data.shards)
    assert train.fit(run.build(recipe, manifest), recipe, manifest, World()) == 0
    assert checkpoint.newest(tmp_path / "run-2" / "checkpoints").step == 6
    recovered = checkpoint.newest(tmp_path / "run" / "checkpoints")
    assert all(
        np.isfinite(w).all() for w in weights.read(recovered.path / "model.safetensors").values()
    )


def test_float16_overflows_halve_the_scale_and_are_skipped(fit, overflow, monkeypatch, tmp_path):
    monkeypatch.setattr(precision, "initial_scale", dynamic_scale)
    overflow({0, 4})
    half = {"precision.dtype": "float16", "precision.initial_loss_scale": 1024.0}
    code, objective, records = fit("half", **half)
    assert code == 0
    assert records[-1]["optim/skipped"] == 2
    state = checkpoint.newest(tmp_path / "half" / "checkpoints").state()
    assert state["loss_scale"]["value"] == 256.0
    assert state["counters"]["updates"] == 4
    assert all(np.isfinite(w).all() for w in weights_of(objective).values())


def test_states_that_overflow_are_skipped_and_halve_the_scale(fit, monkeypatch, tmp_path):
    """The student's Q, K and V overflow as a float16 product does; nothing on the way hides it."""
    monkeypatch.setattr(precision, "initial_scale", dynamic_scale)
    states_at, count = distill.states_at, iter(range(10**6))

    def overflowing(*inputs):
        states = states_at(*inputs)
        if next(count) in {5, 11}:  # micro-batches of the second and the third step
            return [(x * 1e6).astype("float16").astype("float32") for x in states]
        return states

    monkeypatch.setattr(distill, "states_at", overflowing)
    half = {"precision.dtype": "float16", "precision.initial_loss_scale": 1024.0}
    code, objective, records = fit("overflow", **half)
    assert code == 0
    assert [record["optim/skipped"] for record in records] == [0, 1, 2, 2, 2, 2]
    state = checkpoint.newest(tmp_path / "overflow" / "checkpoints").state()
    assert state["loss_scale"]["value"] == 256.0
    assert all(np.isfinite(w).all() for w in weights_of(objective).values())


def test_the_scale_changes_no_update(fit, monkeypatch):
    _, plain, _ = fit("plain")
    monkeypatch.setattr(precision, "initial_scale", dynamic_scale)
    _, scaled, _ = fit("scaled", **{"precision.dtype": "float16"})
    for name, value in weights_of(plain).items():  # powers of 2: to the bit
        np.testing.assert_array_equal(weights_of(scaled)[name], value, err_msg=name)


def test_the_loss_scale_halves_doubles_and_stays_above_1():
    scale = precision.LossScale(4.0, dynamic=True)
    for wanted in (2.0, 1.0, 1.0):
        scale = scale.after(finite=False)
        assert scale.value == wanted
    for _ in range(precision.GROW_EVERY):
        scale = scale.after(finite=True)
    assert scale.value == 2.0
    assert precision.LossScale().after(finite=False).value == 1.0


@pytest.mark.parametrize("micro", [2, 4])
def test_accumulation_gives_the_update_of_the_large_batch(fit, micro):
    _, one, records = fit("one", **{"batch.groups_per_micro_batch": 1})
    _, other, others = fit("other", **{"batch.groups_per_micro_batch": micro})
    for a, b in zip(records, others, strict=True):
        assert a["loss/total"] == pytest.approx(b["loss/total"], rel=1e-4)
    for name, value in weights_of(one).items():
        np.testing.assert_allclose(weights_of(other)[name], value, atol=2e-3, err_msg=name)


def test_lower_precision_on_a_cpu_is_said_and_runs_float32(fit, capsys):
    fit(**{"precision.dtype": "bfloat16", "optimizer.total_steps": 3})
    assert "bfloat16 has no effect on a CPU; running float32" in capsys.readouterr().out


@pytest.mark.parametrize("by", ["global_norm", "norm", "value", "none"])
def test_clipping(by):
    parameters = [paddle.create_parameter([2], "float32") for _ in range(2)]
    for parameter, gradient in zip(parameters, ([3.0, 4.0], [0.3, -0.4]), strict=True):
        (parameter * paddle.to_tensor(gradient)).sum().backward()
    norm = optimize.clip_gradients(parameters, Clip(by=by, limit=1.0))
    assert float(norm) == pytest.approx(25.25**0.5)
    wanted = {
        "global_norm": np.array([[3.0, 4.0], [0.3, -0.4]]) / 25.25**0.5,
        "norm": np.array([[0.6, 0.8], [0.3, -0.4]]),
        "value": np.array([[1.0, 1.0], [0.3, -0.4]]),
        "none": np.array([[3.0, 4.0], [0.3, -0.4]]),
    }[by]
    np.testing.assert_allclose([p.grad.numpy() for p in parameters], wanted, rtol=1e-5)


def test_the_schedule_warms_up_to_the_peak_and_decays_to_0():
    settings = Optimizer(learning_rate=1.0, warmup_steps=4, total_steps=10)
    rates = [optimize.learning_rate(settings, n) for n in range(11)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[5:] == pytest.approx([5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0])


def test_biases_and_norms_do_not_decay():
    names = ("encoder.layers.0.norm1.weight", "embeddings.layer_norm.weight", "a.linear1.bias")
    assert all(optimize.is_bias_or_norm(name) for name in names)
    assert not optimize.is_bias_or_norm("encoder.layers.0.linear1.weight")


def test_a_short_run_has_the_losses_it_had(fit):
    """Golden losses: a change here is a change of the objective, the order or the update."""
    _, _, records = fit()
    golden = [1.2175301, 1.0563538, 1.1614206, 1.0422168, 1.2396946, 1.2667139]
    assert [record["loss/total"] for record in records] == pytest.approx(golden, rel=1e-5)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("fault", ["vanishes", "rots"])
def test_a_shard_that_is_lost_on_the_way_is_named(
    fit, tmp_path, tiny_root, monkeypatch, fault, workers
):
    shards = tmp_path / "shards"
    shutil.copytree(tiny_root / "shards", shards)
    # Files are opened when first needed: let each read begin with none open.
    monkeypatch.setattr(ShardReader, "_file", lambda self, number, path: _open(path))
    update = train.update

    def break_after(*arguments):
        result = update(*arguments)
        for path in shards.glob("*.h5"):
            if fault == "vanishes":
                path.unlink(missing_ok=True)
            else:
                os.truncate(path, path.stat().st_size // 2)
        return result

    monkeypatch.setattr(train, "update", break_after)
    changes = {"data.shards": str(shards), "data.workers": workers, "checkpoint.every_steps": 1}
    changes |= {"optimizer.total_steps": 14}
    with pytest.raises(UserError, match=r"shard-0000\d.h5: cannot be read") as caught:
        fit(**changes)
    assert "verify" in str(caught.value)
    assert checkpoint.newest(tmp_path / "run" / "checkpoints").step >= 1


def masked_lm(tiny_root, output):
    """The tiny recipe for masked-language-model pre-training, with dropout."""
    values = tiny.distill_values(tiny_root, output, **{"optimizer.total_steps": 8})
    for name in ("teacher", "student", "relations"):
        del values[name]
    encoder = {**tiny.sizes(2, 16), "hidden_dropout_prob": 0.1}
    values |= {"encoder": encoder, "model_dir": str(output / "model")}
    return check(MaskedLMRecipe, values, "test")


def test_masked_lm_stopped_twice_equals_straight_to_the_bit(tiny_root, tmp_path, monkeypatch):
    """Masking and dropout too are functions of the step; stopped by SIGTERM, off the schedule."""
    forward_backward, handler = train.forward_backward, signal.getsignal(signal.SIGTERM)

    def stopped(trainer, ready, *rest):
        if ready.step in {2, 6}:
            signal.raise_signal(signal.SIGTERM)
        return forward_backward(trainer, ready, *rest)

    def outcome(name):
        recipe = masked_lm(tiny_root, tmp_path / name)
        manifest = Manifest.read(recipe.data.shards)
        codes = []
        while not codes or codes[-1] == train.SAVED_AND_STOPPED:
            codes.append(train.fit(mlm.build(recipe, manifest), recipe, manifest, World()))
        actual = checkpoint.newest(recipe.output_dir / "checkpoints")
        metrics = read_metrics(recipe.output_dir / "metrics.jsonl")
        losses = [record["loss/total"] for record in metrics]
        return codes, [(actual.path / name).read_bytes() for name in checkpoint.FILES[:2]], losses

    wanted = outcome("straight")
    monkeypatch.setattr(train, "forward_backward", stopped)
    actual = outcome("stopped")
    assert (wanted[0], actual[0]) == ([0], [75, 75, 0])
    assert actual[1:] == wanted[1:]
    assert len(actual[2]) == 8
    assert signal.getsignal(signal.SIGTERM) == handler
