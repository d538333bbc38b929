"""One step: accumulation, the share of a rank, randomness by place, steps that are skipped."""

import contextlib

import numpy as np
import paddle
import pytest

from data_pipeline.base.recipes import check
from data_pipeline.loading.loader import Loader
from data_pipeline.loading.order import OrderSettings, World
from data_pipeline.shards.format import Manifest
from pretrain import run
from pretrain.encoders.load import build_encoder
from pretrain.objectives.masked_lm import MaskedLM
from pretrain.objectives.masking import IGNORED
from pretrain.objectives.settings import Masking
from pretrain.recipe import DistillRecipe
from pretrain.training import optimizer as optimize
from pretrain.training import parallel, precision
from pretrain.training.loop import votes
from pretrain.training.step import StepTimer, Trainer, micro_batch_seed, train_step
from tests.pretrain import tiny

TOLERANCE = {"rtol": 1e-4, "atol": 1e-6}
WITH_FLAG = parallel.with_flag


class Setup:
    """A trainer of the tiny recipe whose optimiser notes the gradients that reach it."""

    def __init__(self, root, rank=0, world_size=1, micro=1, dropout=0.0, clip=None, model=None):
        changes = {"student.hidden_dropout_prob": dropout}
        changes |= {"optimizer.clip.by": clip} if clip else {}
        values = tiny.distill_values(root, root / "unused", **changes)
        self.recipe = check(DistillRecipe, values, "test")
        objective = run.build(self.recipe, Manifest.read(self.recipe.data.shards))
        self.adam = optimize.build_optimizer(objective, self.recipe.optimizer)
        self.gradients, self.micro = {}, micro
        self.world = World(rank, world_size)
        parameters = self.adam._parameter_list
        wrapped = model(objective) if model else objective
        self.trainer = Trainer(self.recipe, objective, wrapped, self.adam, parameters, self.world)
        inner = self.adam.step

        def step():
            named = objective.named_parameters()
            self.gradients = {n: p.grad.numpy().copy() for n, p in named if p.grad is not None}
            inner()

        self.adam.step = step

    def go(self, scale=1.0, step=0):
        settings = OrderSettings(
            seed=3, relation_group_size=4, global_batch_size=16, window_samples=48, block_samples=8
        )
        loader = Loader(self.recipe.data.shards, settings, self.world, None, self.micro, workers=0)
        return train_step(self.trainer, next(iter(loader)), step, 0.01, scale, StepTimer())


@pytest.fixture(autouse=True)
def no_other_rank(monkeypatch):
    """Ranks are played one after the other; none hears another."""
    monkeypatch.setattr(parallel, "with_flag", lambda norm, flag, _: WITH_FLAG(norm, flag, World()))


@pytest.fixture(scope="module")
def whole(tiny_root):
    """The step with the whole global batch in one micro-batch."""
    setup = Setup(tiny_root, micro=4)
    return setup, setup.go()


@pytest.mark.parametrize("micro", [1, 2])
def test_accumulated_gradients_are_those_of_the_large_batch(tiny_root, whole, micro):
    setup = Setup(tiny_root, micro=micro)
    result = setup.go()
    assert setup.gradients.keys() == whole[0].gradients.keys()
    for name, gradient in setup.gradients.items():
        np.testing.assert_allclose(gradient, whole[0].gradients[name], **TOLERANCE, err_msg=name)
    for name, value in result.terms.items():
        assert float(value) == pytest.approx(float(whole[1].terms[name]), rel=1e-5), name
    assert result.gradient_norm == pytest.approx(whole[1].gradient_norm, rel=1e-4)


def test_the_mean_over_ranks_is_the_large_batch(tiny_root, whole):
    shares = [Setup(tiny_root, rank, 2, clip="none") for rank in (0, 1)]
    results = [share.go() for share in shares]
    large = Setup(tiny_root, micro=4, clip="none")
    large.go()
    for name, gradient in large.gradients.items():
        mean = np.mean([share.gradients[name] for share in shares], axis=0)
        np.testing.assert_allclose(mean, gradient, **TOLERANCE, err_msg=name)
    mean = np.mean([float(result.terms["total"]) for result in results])
    assert mean == pytest.approx(float(whole[1].terms["total"]), rel=1e-5)


@pytest.mark.parametrize("micro", [1, 2])
def test_randomness_belongs_to_the_place_in_the_global_batch(tiny_root, micro):
    """Dropout is on; the losses of two ranks are still those of one."""
    one = Setup(tiny_root, micro=micro, dropout=0.3)
    losses = [Setup(tiny_root, rank, 2, micro, dropout=0.3).go() for rank in (0, 1)]
    mean = np.mean([float(result.terms["total"]) for result in losses])
    assert mean == pytest.approx(float(one.go().terms["total"]), rel=1e-5)
    assert Setup(tiny_root, dropout=0.3).go(step=1).gradient_norm != pytest.approx(
        Setup(tiny_root, dropout=0.3).go(step=0).gradient_norm, rel=1e-3
    )


def test_every_micro_batch_of_a_run_has_a_seed_of_its_own():
    seeds = {micro_batch_seed(7, step, place) for step in range(40) for place in range(25)}
    assert len(seeds) == 1000
    assert micro_batch_seed(7, 3, 2) != micro_batch_seed(8, 3, 2)


def test_gradients_are_exchanged_once_a_step(tiny_root):
    exchanged = []

    class Wrapped:
        """What Fleet's wrapper does: backward exchanges unless inside no_sync."""

        def __init__(self, objective):
            self.objective, self.synced = objective, True

        @contextlib.contextmanager
        def no_sync(self):
            self.synced = False
            yield
            self.synced = True

        def __call__(self, *inputs):
            exchanged.append(self.synced)
            return self.objective(*inputs)

    Setup(tiny_root, model=Wrapped).go()
    assert exchanged == [False, False, False, True]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_step_that_is_not_finite_touches_neither_weights_nor_moments(tiny_root, bad):
    setup = Setup(tiny_root)
    setup.go()

    def everything():
        state = {**setup.trainer.objective.state_dict(), **setup.adam.state_dict()}
        return {n: v.numpy().copy() for n, v in state.items() if isinstance(v, paddle.Tensor)}

    before, rate = everything(), setup.adam.get_lr()
    forward = setup.trainer.objective.forward
    setup.trainer.objective.forward = lambda *inputs: (forward(*inputs)[0] * bad, {})
    assert not setup.go(step=1).finite
    after = everything()
    assert setup.adam.get_lr() == rate
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value, err_msg=name)
    setup.trainer.objective.forward = forward
    assert setup.go(step=1).finite  # nothing of it is left in the gradients


def test_a_loss_scale_is_taken_out_again(tiny_root, whole):
    setup = Setup(tiny_root, micro=4)
    assert setup.go(scale=1024.0).gradient_norm == whole[1].gradient_norm  # a power of 2
    for name, gradient in setup.gradients.items():
        np.testing.assert_array_equal(gradient, whole[0].gradients[name], err_msg=name)


def hide_by_id(input_ids, word_start, special_ids, vocab_size, settings, random):
    """In place of `mask_whole_words`: what is hidden depends on nothing but the token."""
    hidden = (input_ids >= 5) & (input_ids % 3 == 0)
    return np.where(hidden, special_ids["mask"], input_ids), np.where(hidden, input_ids, IGNORED)


class MaskedSetup(Setup):
    """The same over masked-language-model pre-training."""

    def __init__(self, root, rank=0, world_size=1, micro=1):
        super().__init__(root, rank, world_size, micro, clip="none")
        manifest = Manifest.read(self.recipe.data.shards)
        paddle.seed(0)
        config = {"architectures": ["BertModel"], "vocab_size": manifest.vocab_size}
        encoder = build_encoder({**config, **tiny.sizes(1, 8), "initializer_range": 0.3})
        objective = MaskedLM(encoder, manifest, Masking())
        adam = optimize.build_optimizer(objective, self.recipe.optimizer)
        self.trainer = Trainer(
            self.recipe, objective, objective, adam, adam._parameter_list, self.world
        )
        inner = adam.step

        def step():
            named = objective.named_parameters()
            self.gradients = {n: p.grad.numpy().copy() for n, p in named if p.grad is not None}
            inner()

        adam.step = step


def test_masked_tokens_count_alike_in_every_micro_batch_and_rank(tiny_root, monkeypatch):
    """Micro-batches hide different numbers of tokens; a mean of their means would be another loss
    for each way to divide the batch."""
    monkeypatch.setattr("pretrain.objectives.masked_lm.mask_whole_words", hide_by_id)
    whole = MaskedSetup(tiny_root, micro=4)
    expected = whole.go()
    accumulated = MaskedSetup(tiny_root, micro=1)
    result = accumulated.go()
    counts = []

    def count(number):
        counts.append(number)
        return paddle.to_tensor(float(number))

    monkeypatch.setattr(parallel, "sum_over_ranks", count)
    for rank in (0, 1):
        MaskedSetup(tiny_root, rank, 2).go()
    assert counts[0] != counts[1]
    total = paddle.to_tensor(float(sum(counts)))
    monkeypatch.setattr(parallel, "sum_over_ranks", lambda number: total)
    shares = [MaskedSetup(tiny_root, rank, 2) for rank in (0, 1)]
    losses = [float(share.go().terms["total"]) for share in shares]
    assert float(result.terms["total"]) == pytest.approx(float(expected.terms["total"]), rel=1e-5)
    assert np.mean(losses) == pytest.approx(float(expected.terms["total"]), rel=1e-5)
    for name, gradient in whole.gradients.items():
        mean = np.mean([share.gradients[name] for share in shares], axis=0)
        np.testing.assert_allclose(accumulated.gradients[name], gradient, **TOLERANCE, err_msg=name)
        np.testing.assert_allclose(mean, gradient, **TOLERANCE, err_msg=name)


def test_backward_runs_outside_autocast(tiny_root, monkeypatch):
    """As Paddle's guide does: the casts are part of the forward pass."""
    inside, during = [], []

    @contextlib.contextmanager
    def autocast(_):
        inside.append(True)
        yield
        inside.pop()

    backward = paddle.Tensor.backward

    def recorded(tensor):
        during.append(bool(inside))
        backward(tensor)

    monkeypatch.setattr(precision, "autocast", autocast)
    monkeypatch.setattr(paddle.Tensor, "backward", recorded)
    Setup(tiny_root).go()
    assert during == [False] * 4


READS = ("numpy", "item", "tolist", "__float__", "__int__", "__bool__", "__array__")


@pytest.mark.parametrize("kind", [Setup, MaskedSetup])
def test_the_host_reads_two_numbers_from_the_device_in_a_step(tiny_root, monkeypatch, kind):
    """On a GPU each read waits for all that was queued before it."""
    setup, reads, inside = kind(tiny_root), [], []

    def counted(read):
        def method(tensor, *rest, **named):
            if not inside:
                reads.append(tensor.shape)
            inside.append(read)
            try:
                return read(tensor, *rest, **named)
            finally:
                inside.pop()

        return method

    setup.adam.step = type(setup.adam).step.__get__(setup.adam)  # without notes of gradients
    setup.trainer.optimizer.step = setup.adam.step
    for name in READS:
        monkeypatch.setattr(paddle.Tensor, name, counted(getattr(paddle.Tensor, name)))
    setup.go()
    assert reads == [[2]]


def test_ranks_vote_whether_to_stop_every_few_steps(tiny_root):
    recipe = check(
        DistillRecipe,
        tiny.distill_values(tiny_root, tiny_root / "unused", **{"safety.stop_vote_steps": 4}),
        "test",
    )
    voting = [step + 1 for step in range(12) if votes(recipe, World(0, 2), step)]
    assert voting == [4, 8, 12]
    assert all(votes(recipe, World(), step) for step in range(12))  # one rank has nobody to ask


@pytest.mark.parametrize(("flag", "asked"), [(None, 0), (False, 1), (True, 1)])
def test_only_a_vote_costs_an_exchange(monkeypatch, flag, asked):
    exchanged = []
    monkeypatch.setattr(paddle.distributed, "all_reduce", lambda flags, op: exchanged.append(flags))
    both = WITH_FLAG(paddle.to_tensor(2.0), flag, World(0, 2))
    assert both.tolist() == [2.0, float(flag or 0)] and len(exchanged) == asked
