"""Batches made ahead are the same ones, and their thread ends in every case."""

import contextlib
import threading

import numpy as np
import paddle
import pytest

from finetune.settings import FitSettings
from finetune.training import classifier, fit
from finetune.training.ahead import DEPTH, ahead
from finetune.training.batches import Encoded
from finetune.training.train import losses_of


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ahead")]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 50])
def test_items_come_in_order_from_a_thread(count):
    places = []

    def items():
        for number in range(count):
            places.append(threading.current_thread().name)
            yield number

    assert list(ahead(items())) == list(range(count))
    assert all(place.startswith("ahead") for place in places)
    assert threads() == []


def test_no_more_than_its_depth_is_made_ahead():
    made = []
    with contextlib.closing(ahead(made.append(n) or n for n in range(100))) as items:
        for item in items:
            assert len(made) <= item + 1 + DEPTH
            if item == 20:
                break
    assert len(made) <= 21 + DEPTH
    assert threads() == []


def test_an_error_of_the_maker_comes_where_its_item_would():
    def items():
        yield 1
        yield 2
        raise OSError("disk")

    taken = []
    with pytest.raises(OSError, match="disk"):
        for item in ahead(items()):
            taken.append(item)
    assert taken == [1, 2]
    assert threads() == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_error_of_the_caller_ends_the_thread(error):
    with pytest.raises(error), contextlib.closing(ahead(iter(range(100)))) as items:
        for item in items:
            if item == 3:
                raise error
    assert threads() == []


@pytest.fixture
def as_on_gpu(monkeypatch):
    """Batches are made ahead, as on a GPU; tensors stay where they are. The devices that the
    thread was told."""
    told = []
    monkeypatch.setattr(fit.device, "on_gpu", lambda: True)
    monkeypatch.setattr(fit.device, "to_device", paddle.to_tensor)
    monkeypatch.setattr(fit.precision, "configure", lambda settings: None)
    monkeypatch.setattr(
        paddle.device,
        "set_device",
        lambda device: told.append((threading.current_thread().name[:5], device)),
    )
    return told


def toy(count: int = 90) -> Encoded:
    rows = [np.array([2, *(5 + (i + j) % 9 for j in range(i % 7)), 3]) for i in range(count)]
    return Encoded(rows, [np.zeros(len(row), int) for row in rows], np.arange(count) % 2)


def trained(encoder, data: Encoded, **hooks) -> dict[str, np.ndarray]:
    paddle.seed(5)
    model = classifier.from_encoder(encoder, 2)
    settings = FitSettings(
        epochs=2, batch_size=16, micro_batch_size=6, learning_rate=1e-3, evaluate_every=5
    )
    scores = {"accuracy": 0.0, "macro_f1": 0.0}
    losses = losses_of(model, settings, data)
    fit.fit(model, data, settings, losses, lambda: scores, keep_last=True, **hooks)
    return {name: value.numpy() for name, value in model.state_dict().items()}


def test_weights_are_the_same_to_the_bit(encoder, request, monkeypatch):
    # On a GPU the layers are Paddle's, and dropout is drawn otherwise.
    monkeypatch.setattr(fit, "replaced_layers", lambda model: contextlib.nullcontext())
    plain = trained(encoder, toy())
    told = request.getfixturevalue("as_on_gpu")
    for name, value in trained(encoder, toy()).items():
        np.testing.assert_array_equal(value, plain[name], err_msg=name)
    assert told == [("ahead", "cpu")]
    assert threads() == []


@pytest.mark.parametrize("hook", ["after_step", "on_evaluation"])
def test_the_thread_ends_when_training_is_ended(hook, encoder, as_on_gpu):
    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(encoder, toy(), **{hook: stop})
    assert threads() == []


def test_training_ends_with_the_error_of_a_batch(encoder, as_on_gpu):
    class Broken(Encoded):
        def take(self, rows, length=None):
            if steps:
                raise ValueError("a row that cannot be padded")
            return super().take(rows, length)

    data, steps = toy(), []
    broken = Broken(data.input_ids, data.token_type_ids, data.labels)
    with pytest.raises(ValueError, match="a row that cannot be padded"):
        trained(encoder, broken, after_step=lambda step, total: steps.append(step))
    assert 1 <= len(steps) <= 1 + DEPTH + 1
    assert threads() == []


def test_the_batches_of_a_cpu_are_made_by_the_caller(encoder):
    class Noted(Encoded):
        def take(self, rows, length=None):
            places.add(threading.current_thread())
            return super().take(rows, length)

    data, places = toy(), set()
    trained(encoder, Noted(data.input_ids, data.token_type_ids, data.labels))
    assert places == {threading.main_thread()}
