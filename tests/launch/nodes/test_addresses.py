import socket

import pytest

from data_pipeline.base.errors import UserError
from launch.nodes import addresses


@pytest.mark.parametrize("text", [None, "", "node0", "node0:", ":29671", "node0:x", "node0:70000"])
def test_a_master_is_host_and_port(text):
    with pytest.raises(UserError, match="several nodes need host:port of node 0"):
        addresses.Master.parse(text)
    assert addresses.Master.parse("node0:29671") == addresses.Master("node0", 29671)


def test_the_own_name_of_a_debian_machine_is_loopback(monkeypatch):
    """There /etc/hosts gives 127.0.1.1 to it, which no other node can reach."""
    answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.1.1", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: answer)
    master = addresses.Master("my-name", 29671)
    assert addresses.is_loopback("127.0.1.1") and addresses.is_here(master)
    assert addresses.address_to_bind(master) == ""  # all interfaces


def test_an_address_of_this_machine_is_listened_on_alone(monkeypatch):
    monkeypatch.setattr(addresses, "local", lambda: {"127.0.0.1", "10.1.2.3"})
    assert addresses.address_to_bind(addresses.Master("10.1.2.3", 1)) == "10.1.2.3"
    assert not addresses.is_here(addresses.Master("10.1.2.4", 1))
    assert addresses.address_to_bind(addresses.Master("127.0.0.1", 1)) == "127.0.0.1"


def test_gloo_is_told_the_interface_of_the_nodes_address(monkeypatch):
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    assert addresses.variables_for("127.0.0.1") == {"GLOO_SOCKET_IFNAME": "lo"}
    assert addresses.variables_for("203.0.113.9") == {}
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth7")
    assert addresses.variables_for("127.0.0.1") == {}


def test_a_free_port_can_be_bound():
    with socket.create_server(("127.0.0.1", addresses.free_port("127.0.0.1"))):
        pass
