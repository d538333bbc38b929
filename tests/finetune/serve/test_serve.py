"""The service: answers, limits, health, batching, no traces, graceful stop."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import asdict

import pytest
from fastapi.testclient import TestClient

from finetune.deploy.answers import Entities, Entity, LabelSet, Prediction, Score
from finetune.deploy.predict import Predictor
from finetune.recipes import ServeRecipe
from finetune.serve.app import create_app
from finetune.serve.schema import PredictResponse
from finetune.serve.service import options
from tests.finetune.serve.predictors import Slow


@pytest.fixture(scope="module")
def client(int8_dir):
    settings = ServeRecipe(
        model=int8_dir, max_texts=8, max_characters=200, max_body_bytes=4000, window_ms=1
    )
    with TestClient(create_app(Predictor(int8_dir), settings)) as opened:
        yield opened


def test_answers_in_order(client):
    texts = ["今晴是很好", "股是很不好他", "我雨在有和"]
    answer = client.post("/predict", json={"texts": texts})
    assert answer.status_code == 200
    labels = [one["label"] for one in answer.json()["predictions"]]
    assert labels == ["weather", "money", "weather"]
    pairs = client.post("/predict", json={"texts": texts[:1], "pairs": ["很好"]})
    assert pairs.status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ({"texts": []}, 422, "at least 1"),
        ({"text": "a"}, 422, "texts: Field required"),
        ({"texts": "a"}, 422, "valid list"),
        ({"texts": [3]}, 422, "valid string"),
        ({"texts": ["a", " "]}, 400, "text 2 is empty"),
        ({"texts": ["a"], "pairs": ["b", "c"]}, 400, "1 texts but 2 pairs"),
        ({"texts": ["a"] * 9}, 413, "at most 8"),
        ({"texts": ["a" * 201]}, 413, "201 characters; at most 200"),
        ({"texts": ["天" * 100_000]}, 413, "more than 4000 bytes"),
    ],
)
def test_bad_requests_get_a_reason(body, status, reason, client):
    answer = client.post("/predict", json=body)
    assert answer.status_code == status
    assert reason in answer.json()["error"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"[" * 3000, "no JSON"),
        (b'{"texts": ["\xe4"]}', "no JSON"),
        (b"[]", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b'{"texts": [1, null], "pairs": [2]}', "texts.0: "),
    ],
)
def test_what_is_malformed_gets_422(body, reason, client):
    answer = client.post("/predict", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["error"].startswith(("body: ", "texts.0: "))
    assert reason in answer.json()["error"]


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 200),
        ("Application/JSON; charset=utf-8", 200),
        ("application/vnd.api+json", 200),
        ("text/plain", 422),  # what a page of another site may send without leave
        ("application/x-www-form-urlencoded", 422),
        (None, 422),
    ],
)
def test_only_json_that_says_so_is_read(kind, status, client):
    headers = {"content-type": kind} if kind else {}
    answer = client.post("/predict", content=b'{"texts": ["a"]}', headers=headers)
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize(
    "body", ['{"texts": ["今晴"]}'.encode("utf-16"), b'{"texts": ["\\ud83d"], "more": NaN}']
)
def test_unusual_json_is_read(body, client):
    answer = client.post("/predict", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "prediction",
    [
        Prediction("雨", 0.75, {"雨": 0.75, "晴": 0.25}),
        Score(1.5),
        LabelSet(["雨"], {"雨": 0.75}),
        Entities([Entity("上海", "place", 0, 2, 0.875)]),
        Entities([]),
    ],
)
def test_answers_are_what_the_openapi_page_says(prediction, int8_dir):
    class Fixed(Slow):
        def predict(self, texts, pairs=None):
            return [prediction for _ in texts]

    with TestClient(create_app(Fixed(), ServeRecipe(model=int8_dir))) as opened:
        answer = opened.post("/predict", json={"texts": ["a", "b"]})
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {"predictions": [asdict(prediction)] * 2}
    PredictResponse.model_validate(answer.json())


def test_numbers_that_json_has_not_become_null(int8_dir):
    class Broken(Slow):
        def predict(self, texts, pairs=None):
            return [Score(float("nan"))]

    with TestClient(create_app(Broken(), ServeRecipe(model=int8_dir))) as opened:
        answer = opened.post("/predict", json={"texts": ["a"]})
    assert answer.json() == {"predictions": [{"score": None}]}


def test_what_is_not_there(client):
    for path, status in (("/predict", 405), ("/nowhere", 404)):
        answer = client.get(path)
        assert answer.status_code == status
        assert list(answer.json()) == ["error"]
        assert path in answer.json()["error"]


def test_health_and_openapi(client):
    health = client.get("/health").json()
    assert health["status"] == "ok"
    assert health["labels"] == ["money", "weather"]
    described = client.get("/openapi.json").json()["paths"]["/predict"]["post"]
    assert described["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    assert described["responses"].keys() == {"200", "400", "408", "413", "422", "503"}
    assert client.get("/docs").status_code == 200


def test_metrics_count_what_was_answered(client):
    before = metric(client, "texts_total")
    client.post("/predict", json={"texts": ["今晴", "股跌"]})
    client.post("/predict", json={"texts": []})
    assert metric(client, "texts_total") == before + 2
    assert metric(client, 'requests_total{path="/predict",status="422"}') >= 1
    assert metric(client, "waiting_texts") == 0


def metric(client, name: str) -> float:
    for line in client.get("/metrics").text.splitlines():
        if line.startswith(f"{name} "):
            return float(line.rpartition(" ")[2])
    return 0.0


def test_singles_and_pairs_share_a_call(int8_dir):
    """Each text is encoded by itself, so that they may."""
    predictor = Predictor(int8_dir)
    together = predictor.predict(["今晴是很好", "今"], [None, "晴"])
    alone = [predictor.predict(["今晴是很好"])[0], predictor.predict(["今"], ["晴"])[0]]
    for one, other in zip(together, alone, strict=True):
        assert one.probability == pytest.approx(other.probability, abs=1e-4)


def test_a_slow_body_gets_408():
    from finetune.serve.middleware import BodyReader

    sent = []

    async def never():
        await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    reader = BodyReader(None, max_bytes=10, seconds=0.01)
    asyncio.run(reader({"type": "http", "method": "POST", "headers": []}, never, send))
    assert sent[0]["status"] == 408
    assert b"not whole after 0.01 seconds" in sent[1]["body"]


def test_a_fault_of_ours_shows_no_trace(int8_dir):
    class Broken(Slow):
        def predict(self, texts, pairs=None):
            raise ZeroDivisionError("secret")

    app = create_app(Broken(), ServeRecipe(model=int8_dir))
    with TestClient(app, raise_server_exceptions=False) as opened:
        answer = opened.post("/predict", json={"texts": ["a"]})
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text


def test_a_line_a_request_is_printed_where_it_is_asked_for(int8_dir):
    assert not options(ServeRecipe(model=int8_dir))["access_log"]
    assert options(ServeRecipe(model=int8_dir, access_log=True))["access_log"]


@pytest.mark.ranks
def test_the_real_server_takes_load_and_stops_gracefully(int8_dir, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "serve.yaml").write_text(
        f"model: {int8_dir}\nport: {port}\nwindow_ms: 5\nrequest_seconds: 2\nqueue_limit: 64\n"
    )
    command = [sys.executable, "-m", "finetune", "serve", "--config", str(tmp_path / "serve.yaml")]
    log = (tmp_path / "log").open("w")
    server = subprocess.Popen(command, stderr=log, stdout=log)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", server)
        statuses: list[int] = []
        threads = [
            threading.Thread(target=lambda: statuses.extend(ask(port) for _ in range(10)))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert statuses == [200] * 80
        health = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10))
        assert health["answered"] == 80
        assert health["calls"] < 80  # some shared a call
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(100)]
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10).close()
        slow = idle[0]  # half a request, and no more
        slow.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{")
        slow.settimeout(30)
        assert b"408" in slow.recv(1000)
        idle[1].settimeout(30)
        assert idle[1].recv(1000) == b""  # closed: it sent nothing in time
        for connection in idle:
            connection.close()
        with socket.create_connection(("127.0.0.1", port), 30) as unfinished:
            unfinished.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"200 OK" in unfinished.recv(10_000)
            unfinished.sendall(b"GET /hea")  # the second request's head does not end
            assert unfinished.recv(1000) == b""
        with socket.create_connection(("127.0.0.1", port), 30) as nonsense:
            nonsense.sendall(b"nonsense\r\n\r\n")
            answer = b"".join(iter(lambda: nonsense.recv(1000), b""))
            assert answer.startswith(b"HTTP/1.1 400")
            head, _, body = answer.partition(b"\r\n\r\n")
            assert json.loads(body).keys() == {"error"} and b"application/json" in head
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) in (0, -signal.SIGTERM)
    finally:
        server.kill()
        server.wait()
        log.close()
    written = (tmp_path / "log").read_text()
    assert "Traceback" not in written
    assert "POST /predict" not in written  # see access_log


def ask(port: int) -> int:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/predict",
        json.dumps({"texts": ["今晴是很好"]}).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.status


def wait_for(url: str, server: subprocess.Popen) -> None:
    """Until the server answers; a server that ended is a failure at once."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        assert server.poll() is None
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.05)
    raise AssertionError("the server did not answer")
