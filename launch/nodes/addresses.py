"""Which address a node is reached at. Paddle compares addresses as text, so every node must be told
its own one, and the master's, exactly."""

import ipaddress
import os
import socket
from dataclasses import dataclass

import psutil

from data_pipeline.base.errors import UserError


@dataclass(frozen=True)
class Master:
    """Where the nodes meet, as given: `host:port`."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str | None) -> "Master":
        """From `host:port`.

        Raises:
            UserError: it is not of that form.
        """
        host, _, port = (text or "").rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise UserError(
                f"--master: several nodes need host:port of node 0, for example node0:29671 "
                f"(given: {text!r})"
            )
        return cls(host, int(port))

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def resolve(host: str) -> list[str]:
    """IPv4 addresses of a name or of an address; empty when it has none (yet)."""
    try:
        entries = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)
    except OSError:
        return []
    return list(dict.fromkeys(str(entry[4][0]) for entry in entries))


def local() -> set[str]:
    """IPv4 addresses of this machine's interfaces."""
    return {
        address.address
        for interface in psutil.net_if_addrs().values()
        for address in interface
        if address.family == socket.AF_INET
    }


def interface_of(address: str) -> str | None:
    """Name of the interface that has an address; None when none of this machine's has."""
    for name, entries in psutil.net_if_addrs().items():
        if any(entry.address == address for entry in entries):
            return name
    return None


def variables_for(address: str) -> dict[str, str]:
    """Variables that make Paddle's Gloo listen on this node's address. Otherwise it listens on the
    one that the own name resolves to, which may be 127.0.1.1."""
    interface = interface_of(address)
    if interface is None or "GLOO_SOCKET_IFNAME" in os.environ:
        return {}
    return {"GLOO_SOCKET_IFNAME": interface}


def is_loopback(address: str) -> bool:
    """127.0.0.1, but also Debian's 127.0.1.1 for the own name."""
    return ipaddress.ip_address(address).is_loopback


def is_here(master: Master) -> bool:
    """Whether the master's name or address is this machine's."""
    return any(is_loopback(a) or a in local() for a in resolve(master.host))


def address_to_bind(master: Master) -> str:
    """The address that node 0 listens on: the one given, where it is one of its own that others
    can reach; otherwise all (the own name may resolve to 127.0.1.1, or to a forwarded address)."""
    for address in resolve(master.host):
        if address in local() and not is_loopback(address):
            return address
    return "127.0.0.1" if master.host in ("127.0.0.1", "localhost") else ""


def free_port(address: str) -> int:
    """A TCP port that is free on a local address now."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]
