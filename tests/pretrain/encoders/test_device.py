"""What goes between a GPU and the host, played with a GPU that notes what is asked of it."""

import paddle
import pytest

from pretrain.encoders import device
from pretrain.training.step import StepTimer


class Gpu:
    """A stream: a number of seconds that have been queued, and the order of what was asked."""

    def __init__(self):
        self.queued, self.asked = 0.0, []

    def event(self, enable_timing=False):
        return Event(self, enable_timing)


class Event:
    def __init__(self, gpu, enable_timing):
        self.gpu, self.enable_timing, self.at = gpu, enable_timing, None

    def record(self):
        self.at = self.gpu.queued
        self.gpu.asked.append("record")

    def synchronize(self):
        self.gpu.asked.append("wait")

    def elapsed_time(self, end):
        assert self.enable_timing and end.enable_timing
        return 1e3 * (end.at - self.at)


@pytest.fixture
def gpu(monkeypatch):
    made = Gpu()
    monkeypatch.setattr(device, "on_gpu", lambda: True)
    monkeypatch.setattr(paddle.device, "Event", made.event)
    monkeypatch.setattr(paddle, "CUDAPinnedPlace", lambda: "pinned")
    return made


class Tensor:
    """Notes where it is copied to, and whether the host waits for that."""

    def __init__(self, gpu, value):
        self.gpu, self.value = gpu, value

    def to(self, place, blocking):
        self.gpu.asked.append((place, blocking))
        return self

    def cuda(self, blocking):
        self.gpu.asked.append(("gpu", blocking))
        return self

    def tolist(self):
        self.gpu.asked.append("read")
        return self.value


def test_the_host_waits_for_its_numbers_alone(gpu):
    """For an event right behind the copy, not for what is queued after it."""
    copy = device.HostCopy(Tensor(gpu, [2.0, 0.0]))
    assert gpu.asked == [("pinned", False), "record"]
    gpu.asked.append("the next batch is queued")
    assert copy.tolist() == [2.0, 0.0]
    assert gpu.asked[3:] == ["wait", "read"]


def test_the_host_does_not_wait_for_inputs_on_their_way(gpu, monkeypatch):
    made = []

    def to_tensor(array, place):
        made.append((array, place))
        return Tensor(gpu, array)

    monkeypatch.setattr(paddle, "to_tensor", to_tensor)
    device.to_device("ids")
    assert made == [("ids", "pinned")] and gpu.asked == [("gpu", False)]


def test_parts_of_a_step_are_timed_by_the_gpus_stream(gpu):
    """The host queues an operation long before it is computed."""
    timer = StepTimer()
    for seconds in (2.0, 3.0):
        with timer.part("teacher"):
            gpu.queued += seconds
        gpu.queued += 10.0  # between two parts
    with timer.part("data", on_host=True):
        pass
    assert "wait" not in gpu.asked  # nobody has asked for the seconds yet
    seconds = timer.seconds
    assert seconds["teacher"] == pytest.approx(5.0) == timer.seconds["teacher"]
    assert 0 <= seconds["data"] < 1
