"""Ranks that share a relation group, all played in this process."""

import inspect

import numpy as np
import paddle
import pytest

from pretrain.encoders import device
from pretrain.objectives.span import RankGroup, all_to_all

ALL_TO_ALL = inspect.signature(paddle.distributed.alltoall)  # the real one's order of arguments
ALL_GATHER = inspect.signature(paddle.distributed.all_gather)


@pytest.fixture(params=[False, True], ids=["Gloo", "NCCL"])
def exchange(request, monkeypatch):
    """A function of the tensor that each rank has: what each gets by `all_to_all` of its parts."""
    monkeypatch.setattr(device, "on_gpu", lambda: request.param)
    sent: dict[int, list] = {}

    def alltoall(*given, **named):
        call = ALL_TO_ALL.bind(*given, **named).arguments
        part, rest = call["group"]
        sent[part] = call["in_tensor_list"]
        if rest:
            call["out_tensor_list"] += [sent[other][part] for other in sorted(sent)]

    def all_gather(*given, **named):
        call = ALL_GATHER.bind(*given, **named).arguments
        part, rest = call["group"]
        sent[part] = call["tensor"]
        if rest:
            call["tensor_list"] += [sent[other] for other in sorted(sent)]

    monkeypatch.setattr(paddle.distributed, "alltoall", alltoall)
    monkeypatch.setattr(paddle.distributed, "all_gather", all_gather)

    def exchanged(by_rank):
        parts = len(by_rank)
        for rest in (False, True):  # all must have sent before one receives
            received = []
            for number, tensors in enumerate(by_rank):
                ranks = RankGroup((number, rest), parts, number)
                received.append(all_to_all(tensors, ranks) if rest else sending(tensors, ranks))
        return received

    def sending(tensors, ranks):
        try:
            all_to_all(tensors, ranks)
        except IndexError:  # nothing has come
            return None

    return exchanged


@pytest.mark.parametrize("parts", [2, 4])
def test_part_j_of_rank_i_becomes_part_i_of_rank_j(exchange, parts):
    by_rank = [[paddle.to_tensor([10.0 * i + j]) for j in range(parts)] for i in range(parts)]
    received = exchange(by_rank)
    actual = np.array([[float(part) for part in of] for of in received])
    assert (actual == np.array([[10 * i + j for i in range(parts)] for j in range(parts)])).all()
