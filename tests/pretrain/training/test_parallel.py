"""Which ranks are on one machine, played without other ranks."""

import pytest

from data_pipeline.loading.order import World
from pretrain.training import parallel


@pytest.fixture
def machines(monkeypatch):
    """A function: what `node_of` gives to each rank, with the machine of each rank by name."""

    def nodes(*names):
        def gather(values, world):
            machine = {names[world.rank]: values[0]}  # what it sends of itself
            return [[machine.get(name, name), 100 + rank] for rank, name in enumerate(names)]

        monkeypatch.setattr(parallel, "_gather", gather)
        return [parallel.node_of(World(rank, len(names))) for rank in range(len(names))]

    return nodes


def test_the_first_rank_of_each_machine_reads_for_it(machines):
    nodes = machines("a", "a", "b", "b", "a")
    assert [node.is_reader for node in nodes] == [True, False, True, False, False]
    addresses = [node.address for node in nodes]
    assert addresses[0] == addresses[1] == addresses[4] != addresses[2] == addresses[3]


def test_a_rank_alone_on_its_machine_shares_with_nobody(machines):
    nodes = machines("a", "b", "b")
    assert nodes[0] is None and nodes[1].is_reader
    assert parallel.node_of(World()) is None
