"""HTTP as clients send it, byte by byte: limits of heads, malformed and unusual requests."""

import contextlib
import json
import socket
import threading
import time

import pytest
import uvicorn

from finetune.recipes import ServeRecipe
from finetune.serve.app import create_app
from finetune.serve.protocol import HEAD_BYTES
from finetune.serve.service import options
from tests.finetune.serve.predictors import Instant

BODY = json.dumps({"texts": ["雨"]}).encode()
FIELDS = b"Host: x\r\nContent-Type: application/json\r\n"
HEAD = b"POST /predict HTTP/1.1\r\n" + FIELDS
REQUEST = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    recipe = ServeRecipe(model=tmp_path_factory.mktemp("model"), port=0, request_seconds=0.5)
    server = uvicorn.Server(uvicorn.Config(create_app(Instant(), recipe), **options(recipe)))
    thread = threading.Thread(target=server.run)
    thread.start()
    until = time.monotonic() + 60
    while not server.started:
        assert thread.is_alive() and time.monotonic() < until
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(60)


@contextlib.contextmanager
def connected(port: int):
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        yield connection, connection.makefile("rb")


def answer(stream) -> tuple[int, dict]:
    """(status, content) of the next answer."""
    status = int(stream.readline().split()[1])
    length = 0
    while (line := stream.readline()) != b"\r\n":
        name, _, value = line.partition(b":")
        length = int(value) if name.lower() == b"content-length" else length
    return status, json.loads(stream.read(length) or b"null")


def predicted(stream) -> list[str]:
    status, content = answer(stream)
    assert status == 200, content
    return [one["label"] for one in content["predictions"]]


def test_one_request_after_the_other(port):
    with connected(port) as (connection, stream):
        for _ in range(3):
            connection.sendall(REQUEST)
            assert predicted(stream) == ["雨"]


def test_requests_sent_at_once_are_answered_in_order(port):
    with connected(port) as (connection, stream):
        connection.sendall(REQUEST + HEALTH + REQUEST)
        assert predicted(stream) == ["雨"]
        assert answer(stream)[1]["status"] == "ok"
        assert predicted(stream) == ["雨"]


@pytest.mark.parametrize("size", [1, 7, 40])
def test_a_request_in_pieces(size, port):
    with connected(port) as (connection, stream):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(REQUEST), size):
            connection.sendall(REQUEST[start : start + size])
        assert predicted(stream) == ["雨"]


def test_a_body_in_chunks(port):
    chunks = b"".join(b"%x\r\n%s\r\n" % (1, BODY[i : i + 1]) for i in range(len(BODY)))
    with connected(port) as (connection, stream):
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
        assert predicted(stream) == ["雨"]


def test_a_client_that_waits_for_leave_to_send_its_body(port):
    with connected(port) as (connection, stream):
        connection.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY))
        assert answer(stream) == (100, None)
        connection.sendall(BODY)
        assert predicted(stream) == ["雨"]


def test_an_offer_of_another_protocol_is_passed_over(port):
    """Java's client makes it with its first request."""
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"
    with connected(port) as (connection, stream):
        for _ in range(2):
            connection.sendall(REQUEST.replace(b"Content-Length", offer + b"Content-Length"))
            assert predicted(stream) == ["雨"]
        connection.sendall(REQUEST + HEALTH[:-2] + offer + b"\r\n")
        assert predicted(stream) == ["雨"]
        assert answer(stream)[0] == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost x\r\n\r\n",
        b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
        HEAD + b"Content-Length: a\r\n\r\n",
        HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nz\r\n",
    ],
)
def test_what_is_no_http_gets_json_and_is_disconnected(sent, port):
    with connected(port) as (connection, stream):
        connection.sendall(sent)
        status, content = answer(stream)
        assert status == 400
        assert content.keys() == {"error"}
        assert stream.read() == b""


@pytest.mark.parametrize("before", [b"", HEALTH])
@pytest.mark.parametrize(
    "endless",
    [
        b"GET /" + b"a" * HEAD_BYTES,
        HEALTH[:-2] + b"X: " + b"a" * HEAD_BYTES,
        HEALTH[:-2] + b"X: a\r\n" * (HEAD_BYTES // 6 + 1),
    ],
)
def test_a_head_without_end_is_refused_before_its_time_is_over(endless, before, port):
    with connected(port) as (connection, stream):
        connection.sendall(before)
        if before:
            assert answer(stream)[0] == 200
        connection.sendall(endless)
        status, content = answer(stream)
        assert status == 400
        assert f"more than {HEAD_BYTES} bytes" in content["error"]


def test_trailers_without_end_are_refused(port):
    with connected(port) as (connection, stream):
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(8 * HEAD_BYTES // 1000):
                connection.sendall(b"X: " + b"a" * 995 + b"\r\n")
        assert answer(stream)[0] == 400


@pytest.mark.parametrize("before", [b"", HEALTH, REQUEST])
def test_half_a_head_is_disconnected_in_time(before, port):
    with connected(port) as (connection, stream):
        connection.sendall(before)
        if before:
            assert answer(stream)[0] == 200
        connection.sendall(b"GET /hea")
        began = time.monotonic()
        assert stream.read() == b""
        assert 0.2 < time.monotonic() - began < 4  # sooner than an idle one


def test_half_a_body_gets_408(port):
    with connected(port) as (connection, stream):
        connection.sendall(REQUEST[:-1])
        status, content = answer(stream)
        assert status == 408
        assert "not whole after 0.5 seconds" in content["error"]
        assert stream.read() == b""
