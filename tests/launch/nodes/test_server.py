"""Server and clients over real sockets on the loopback interface."""

import socket
import time

import pytest

from launch.nodes.addresses import Master, free_port
from launch.nodes.client import Client, Lost
from launch.nodes.coordinator import Coordinator, Limits
from launch.nodes.messages import End, Ended, Halt, Join, Refused, Start, encode
from launch.nodes.server import Server
from launch.restarts import Restarts


@pytest.fixture
def served():
    """A server for two nodes; its messages for people are in `server.reported`."""
    reported = []
    state = Coordinator(2, Limits(60, 60), Restarts(3, first_pause=0))
    server = Server(Master("127.0.0.1", free_port("127.0.0.1")), state, reported.append)
    server.reported = reported
    server.start()
    yield server
    server.close(0)


def client(server, node, **changes):
    values = {"host": "h", "address": "", "nproc_per_node": 1, "recipe_sha256": "a", **changes}
    made = Client.try_to_connect(server.master, Join(node=node, **values))
    assert isinstance(made, Client), made
    return made


def receive(*clients, seconds=10):
    """The next message of each that is one; the others are polled meanwhile."""
    messages = dict.fromkeys(clients)
    deadline = time.monotonic() + seconds
    while None in messages.values():
        assert time.monotonic() < deadline, messages
        for each in clients:
            for message in each.poll(0.05):
                if type(message).__name__ != "Alive":
                    messages[each] = message
    return list(messages.values())


def test_nodes_are_told_the_same_meeting_point_and_end_together(served):
    clients = [client(served, 0), client(served, 1)]
    starts = receive(*clients)
    assert [start.node for start in starts] == [0, 1]
    assert starts[0].master == starts[1].master
    host, _, port = starts[0].master.partition(":")
    assert (host, starts[0].address) == ("127.0.0.1", "127.0.0.1")
    assert int(port) != served.master.port
    clients[1].send(Ended(1, 2, -1, "the recipe is wrong"))
    assert receive(clients[0]) == [Halt(1, "node 1: the recipe is wrong")]
    clients[0].send(Ended(1, 247, -1))
    assert receive(*clients) == [End(2, "node 1: the recipe is wrong")] * 2
    assert served.reported == ["node 1: the recipe is wrong"]


def test_a_given_address_is_passed_on(served, monkeypatch):
    monkeypatch.setattr("launch.nodes.addresses.free_port", lambda _: 4242)
    clients = [client(served, 0, address="10.1.2.3"), client(served, 1, address="10.1.2.4")]
    starts = receive(*clients)
    assert [start.address for start in starts] == ["10.1.2.3", "10.1.2.4"]


def test_an_address_that_is_not_node_0s_ends_all_nodes(served):
    clients = [client(served, 0, address="203.0.113.1"), client(served, 1)]
    for end in receive(*clients):
        assert end.code == 2
        assert end.reason.startswith("node 0 cannot listen at 203.0.113.1: ")


def test_a_node_whose_connection_ends_is_lost_and_may_come_back(served):
    clients = [client(served, 0), client(served, 1)]
    receive(*clients)
    clients[1].close()
    assert receive(clients[0]) == [Halt(1, "node 1 was lost")]
    clients[0].send(Ended(1, 247, 4))
    back = client(served, 1)
    starts = receive(clients[0], back)
    assert [(start.attempt, start.node) for start in starts] == [(2, 0), (2, 1)]
    assert isinstance(starts[0], Start)


def test_a_silent_node_is_lost(served):
    served.lost_seconds = 0.5
    first, silent = client(served, 0), client(served, 1)
    receive(first, silent)
    deadline = time.monotonic() + 10
    message = None
    while message is None and time.monotonic() < deadline:
        first.send(Ended(0, 0, -1))  # a sign of life that says nothing
        message = next((m for m in first.poll(0.1) if isinstance(m, Halt)), None)
    assert message == Halt(1, "node 1 was lost")
    assert any("has been silent" in text for text in served.reported)


def test_a_number_that_is_taken_may_become_free_and_one_too_large_does_not(served):
    first, second, third = (client(served, node) for node in (1, 1, 2))
    (taken,) = receive(second)
    assert taken == Refused("node 1 has already joined from another process", may_retry=True)
    (large,) = receive(third)
    first.close()
    assert "--node_rank 2 is too large: the 2 nodes are 0 to 1" in large.reason
    assert not large.may_retry


def test_what_is_not_a_node_changes_nothing(served):
    with socket.create_connection(("127.0.0.1", served.master.port)) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        answer = stranger.recv(1000)
        assert b"Refused" in answer
    with socket.create_connection(("127.0.0.1", served.master.port)) as stranger:
        stranger.sendall(encode(Ended(1, 2, 0)))  # without having joined
        clients = [client(served, 0), client(served, 1)]
        assert [type(message) for message in receive(*clients)] == [Start, Start]


def test_a_client_notices_that_the_server_has_ended(served):
    # Both are kept: a connection that is collected ends, and node 0 would be told so first.
    waiting, other = client(served, 0), client(served, 1)
    receive(waiting, other)
    for peer in list(served.peers.values()):
        peer.socket.shutdown(socket.SHUT_RDWR)
    with pytest.raises(Lost):
        receive(waiting)


def test_a_name_without_an_address_and_a_closed_port_are_said():
    join = Join(0, "h", "", 1, "a")
    reason = Client.try_to_connect(Master("no-such-host.invalid", 1), join)
    assert reason == "the name no-such-host.invalid has no address"
    closed = Master("127.0.0.1", free_port("127.0.0.1"))
    assert "Connection refused" in Client.try_to_connect(closed, join)
