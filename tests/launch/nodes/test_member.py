"""A node whose master is not there, or is something else."""

import socket
import threading

import pytest

from data_pipeline.base import exits
from data_pipeline.base.errors import UserError
from launch.nodes import member
from launch.nodes.addresses import Master
from launch.nodes.coordinator import Limits
from launch.nodes.member import Member
from launch.nodes.messages import Join


@pytest.fixture
def listener():
    """A socket that listens on a port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def node(number, port, tmp_path, seconds=1.0):
    """A member that starts no rank, and what it reports."""
    reported = []
    made = Member(
        Master("127.0.0.1", port),
        2,
        Join(number, "h", "127.0.0.1", 1, "a"),
        command=lambda start: pytest.fail("a rank was started"),
        environment={},
        checkpoints=tmp_path,
        limits=Limits(seconds, seconds),
        report=reported.append,
    )
    return made, reported


def test_a_port_in_use_ends_node_0_with_what_to_do(listener, tmp_path):
    port = listener.getsockname()[1]
    made, _ = node(0, port, tmp_path)
    with pytest.raises(
        UserError, match=f"port {port} of this node cannot be used .*choose another"
    ):
        made.supervise()


@pytest.mark.parametrize(
    "answer", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"]
)
def test_another_program_at_the_masters_port_is_not_waited_for_without_end(
    listener, tmp_path, monkeypatch, answer
):
    """It accepts the connection, and closes it or says something that no node says."""
    monkeypatch.setattr(member, "RETRY_SECONDS", 0.05)

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    made, reported = node(1, listener.getsockname()[1], tmp_path)
    try:
        assert made.supervise() == exits.UNREACHABLE
    finally:
        listener.shutdown(socket.SHUT_RDWR)
    assert len(reported) == 1
    assert "did not answer within 1 s: what listens there may be another program" in reported[0]
